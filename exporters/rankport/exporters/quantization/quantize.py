"""Quantization at export: replaces a model's linear layers and its embedding table in place, one after another."""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.experts.modules import all_experts, subtracts
from rankport.exporters.quantization.calibration import InputSums
from rankport.exporters.quantization.coarse import is_coarse
from rankport.exporters.quantization.experts import quantize_experts, schemes_of, stated_of
from rankport.exporters.quantization.facts import QuantizationFacts, SchemeFacts
from rankport.exporters.quantization.linear import (
    QuantizedEmbedding,
    QuantizedLinear,
    QuantizedTable,
    set_module,
)
from rankport.exporters.quantization.loud import LoudColumns, quiet_mask
from rankport.exporters.quantization.recipes import Choices, Recipe
from rankport.exporters.quantization.rounding import round_to_nearest, round_with_compensation
from rankport.exporters.quantization.tables import LOUD_TABLE, rounded_table
from rankport.exporters.torch_memory import release
from rankport.protos.errors import CheckpointError

_LAYERS_A_RELEASE = 8
_ROUTER = re.compile(r"router|gating|moe\w*gate$", re.IGNORECASE)
"""Names of modules, and of classes of modules, that pick the experts of a token: a rounded logit picks others."""
_PLAIN = ("FalconLinear",)
"""Classes with a forward of their own that is the same product."""
_FEWEST_OUTPUTS = 16
"""Gates and the labels of a class decide much by few weights, in which there is nothing to save."""


def quantize(
    model: nn.Module,
    recipe: Recipe,
    calibration: InputSums | None,
    on_layer: Callable[[int, int], None] = lambda done, total: None,
    *,
    whole_head: bool = False,
    loud: Mapping[str, Tensor] | None = None,
) -> QuantizationFacts:
    """Quantizes the body of `model`, and with `whole_head` its LM head, the largest matrix that a written token reads.

    A head of which a graph keeps the label rows only stays as it is. Where the whole head is the table of embeddings,
    both read the same codes.

    Each layer's full-precision weight is freed as soon as its codes exist. With `calibration`, rounding makes up for
    its errors on those inputs; without, every weight goes to its nearest code, but for the `loud` columns of a layer's
    input (name -> places), whose weights stay as they are. A router of experts, a layer of few outputs, or one whose
    weights the grid is too coarse for, stays in full precision. Experts are rounded to nearest.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    body = [
        (name, layer)
        for name, layer in model.named_modules()
        # An encoder's pooler is no part of its graph.
        if isinstance(layer, nn.Linear)
        and _is_plain(layer)
        and not (recipe.fine and layer is not head and _reads_a_text(model, name))
        and (layer is not head or whole_head)
        and name != "score"
        and not name.startswith("pooler.")
    ]
    if not body:
        kinds = sorted({type(layer).__name__ for layer in model.modules() if hasattr(layer, "weight")})
        raise CheckpointError(
            f"{type(model).__name__} has no torch.nn.Linear to quantize (its weights are in {', '.join(kinds)}): "
            "export it without --quantize"
        )
    experts = [] if recipe.of_experts() is None or subtracts(model) else all_experts(model)
    total = len(body) + len(experts)
    tied = _is_table(head, model.get_input_embeddings())  # type: ignore[operator]
    done: dict[tuple[int, int | None, str], list[QuantizedLinear]] = {}
    with torch.no_grad():
        for count, (name, layer) in enumerate(body, 1):
            on_layer(count, total)
            if count % _LAYERS_A_RELEASE == 0:
                release()
            used = recipe.of_head() if layer is head else recipe
            group = used.group_of(layer)
            columns = (loud or {}).get(name)
            if group == 0 or _stays(model, name, used, group, columns):
                continue
            quantized = _quantized(layer, name, used, group, calibration, columns)
            set_module(model, name, quantized)
            activation = quantized.inputs
            done.setdefault((used.bits, group, activation), []).append(quantized)
        _quantize_experts(experts, recipe, lambda done: on_layer(len(body) + done, total))
        embedding = _quantize_embedding(model, tied, recipe.repeats)
    release()
    schemes = [
        SchemeFacts(
            part="linear",
            layers=len(layers),
            weights=sum(layer.in_features * layer.out_features for layer in layers),
            bits=bits,
            type=recipe.type,
            group_size=group,
            symmetric=True,
            activations=activation,
        )
        for (bits, group, activation), layers in done.items()
    ]
    method = "round to nearest" if calibration is None else "GPTQ"
    return QuantizationFacts(
        method, recipe.name, (*schemes, *schemes_of(model), *embedding), kept_in(model, whole_head=whole_head)
    )


def _reads_a_text(model: nn.Module, name: str) -> bool:
    """Tells a layer that takes one state a text, or has one output a label: outside the body, or its pooler."""
    body = getattr(model, "base_model_prefix", "")
    outside = hasattr(model, body) and not name.startswith(f"{body}.")
    return outside or "pooler" in name.split(".")


def _is_plain(layer: nn.Linear) -> bool:
    """Tells a product with the whole matrix; a class with a forward of its own may cut it into groups, say."""
    return type(layer).forward is nn.Linear.forward or type(layer).__name__ in _PLAIN


def _routes(model: nn.Module, name: str) -> bool:
    """Tells a layer that picks a token's experts, or is within a module that does."""
    names = name.split(".")
    path = [model.get_submodule(".".join(names[:end])) for end in range(1, len(names) + 1)]
    return any(map(_ROUTER.search, (*names, *(type(module).__name__ for module in path))))


def _is_table(head: nn.Module | None, table: nn.Module) -> bool:
    """Tells an LM head whose rows are the embeddings themselves: some classes of tables scale theirs."""
    return isinstance(head, nn.Linear) and type(table) is nn.Embedding and head.weight is table.weight


def kept_in(model: nn.Module, *, whole_head: bool = False) -> tuple[str, ...]:
    """Names modules of weight matrices that stay in full precision, of a head what the graph keeps of it."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    names = [
        name
        for name, module in model.named_modules()
        # Experts keep the matrices of all of them as parameters of other names.
        if any(weight.ndim > 1 for weight in module.parameters(recurse=False))
        and stated_of(module) is None
        and (module is not head or whole_head)
        and not name.startswith("pooler.")
    ]
    label_rows = ["label rows of the LM head"] if isinstance(head, nn.Linear) and not whole_head else []
    columns = [LOUD_TABLE] if any(_has_loud_columns(module) for module in model.modules()) else []
    return (*label_rows, *columns, *names)


def _has_loud_columns(module: nn.Module) -> bool:
    return isinstance(module, QuantizedEmbedding) and module.has_loud


def _stays(model: nn.Module, name: str, recipe: Recipe, group: int | None, loud: Tensor | None) -> bool:
    if recipe.repeats is not None:
        return name in recipe.repeats.kept
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    if len(weight) < _FEWEST_OUTPUTS or _routes(model, name):
        return True
    return is_coarse(weight.detach(), quiet_mask(loud, weight.shape[1]), recipe, group)


def _quantized(
    layer: nn.Linear,
    name: str,
    recipe: Recipe,
    group: int | None,
    calibration: InputSums | None,
    loud: Tensor | None,
) -> QuantizedLinear:
    weight = layer.weight.detach().to(torch.float32)
    bias = None if layer.bias is None else layer.bias.detach()
    if loud is not None:
        assert calibration is None, name
        columns = LoudColumns(loud, weight[:, loud].contiguous())
        rounded = round_to_nearest(weight * columns.quiet(layer.in_features), recipe, group)
        return QuantizedLinear(rounded, bias, recipe.activation(group), columns)
    hessian = None if calibration is None else calibration.hessians.get(name)
    if hessian is None:
        rounded = round_to_nearest(weight, recipe, group)
    else:
        rounded = round_with_compensation(weight, hessian, recipe, group)
    return QuantizedLinear(rounded, bias, recipe.activation(group))


def _quantize_experts(
    experts: list[tuple[str, nn.Module]], recipe: Recipe, on_done: Callable[[int], None]
) -> None:
    own = recipe.of_experts()
    for count, (name, part) in enumerate(experts, 1):
        on_done(count)
        if own is not None and (recipe.repeats is None or name not in recipe.repeats.kept):
            quantize_experts(part, own)
            release()


def _quantize_embedding(model: nn.Module, tied: bool, repeats: Choices | None) -> list[SchemeFacts]:
    table, head = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[operator]
    name = next((name for name, module in model.named_modules() if module is table), None)
    if name is None or not isinstance(table, nn.Embedding):
        return []
    weights = table.num_embeddings * table.embedding_dim
    if tied and isinstance(head, QuantizedLinear) and head.quantized.type == "int":
        shared = head.quantized
        set_module(model, name, QuantizedTable(shared))
        return [SchemeFacts("embedding", 1, weights, shared.bits, "int", shared.group_size, True, "none")]
    set_module(model, name, rounded_table(table, finds_loud=repeats is None or repeats.loud_table))
    return [SchemeFacts("embedding", 1, weights, 8, "int", None, True, "none")]
