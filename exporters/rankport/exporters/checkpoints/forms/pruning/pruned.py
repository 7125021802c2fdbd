"""Pruned checkpoints: layers as wide as their tensors, whatever config.json says of all of them at once.

transformers builds every layer of a decoder alike; here single layers are narrowed before anything is filled in.
Owns the widths of q, k, v, o and of gate, up, down projections. What does not follow from them is no pruning, and
stays an error of `fill` that names the tensor.
"""

import re
from dataclasses import dataclass

import torch
from torch import nn

from rankport.exporters.checkpoints.forms.fill import fill
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.pruning.pruned_config import (
    PER_LAYER,
    by_tensors,
    parse_pruned,
    require_layers,
    without_per_layer,
)
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.protos.errors import CheckpointError

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
_HEADS, _KV_HEADS, _INTERMEDIATE = "num_attention_heads", "num_key_value_heads", "intermediate_size"
# Where attention modules of one family or another keep what the config told them.
_COPIES = {
    _HEADS: ("num_heads", _HEADS),
    _KV_HEADS: (_KV_HEADS, "num_kv_heads"),
    _INTERMEDIATE: (_INTERMEDIATE,),
}


@dataclass(frozen=True, slots=True)
class Width:
    """A width of one layer that is not the config's."""

    layer: str  # module name of the attention or feed-forward part
    field: str  # of config.json
    stated: int
    stored: int


def load(folder: CheckpointFolder, head: Head) -> LoadedModel | None:
    """Loads a pruned model; None if the tensors are as config.json says.

    Raises CheckpointError naming the tensor or field at fault.
    """
    require_layers(folder, head)
    if not any(name.endswith(("q_proj.weight", "gate_proj.weight")) for name in folder.tensors):
        return None
    if _is_as_stated(folder, head):
        return None
    folder, notes = by_tensors(folder)
    model, per_layer = _skeleton(folder, head)
    widths = fit_widths(model, folder.tensors)
    if per_layer is None:
        notes += describe(widths)
    else:
        _require_stated(model, per_layer)
    return LoadedModel(fill(model, folder, head), notes=tuple(notes))


def _is_as_stated(folder: CheckpointFolder, head: Head) -> bool:
    """Tells whether transformers takes the config, and what it makes of it is as wide as the tensors."""
    try:
        model = skeleton(parse_config(folder), head)
    except CheckpointError:
        return False  # raised again below, where pruning does not explain it
    layers = (_Layer(model, name, module, folder.tensors) for name, module in model.named_modules())
    return all(layer.shapes(parts) is None for layer in layers for parts in _parts(layer.module))


def fit_widths(model: nn.Module, tensors: StoredTensors) -> list[Width]:
    """Narrows (or widens) the unfilled layers of a skeleton to the shapes that are stored for them.

    Raises CheckpointError naming a tensor whose shape contradicts the others of its layer.
    """
    widths: list[Width] = []
    for name, module in list(model.named_modules()):
        for parts in _parts(module):
            fit = _fit_attention if parts is _ATTENTION else _fit_feed_forward
            widths += fit(_Layer(model, name, module, tensors))
    return widths


def describe(widths: list[Width]) -> list[str]:
    """Widths against the config's word, layers that are alike in one line."""
    alike: dict[tuple[str, int, int], list[int]] = {}
    for width in widths:
        number = re.search(r"layers\.(\d+)", width.layer)
        alike.setdefault((width.field, width.stated, width.stored), []).append(
            int(number[1]) if number else 0
        )
    return [
        f"layers {_ranges(layers)}: {field} {stored}, read off the tensors (config.json says {stated})"
        for (field, stated, stored), layers in alike.items()
    ]


def _skeleton(folder: CheckpointFolder, head: Head) -> tuple[nn.Module, dict[int, dict[str, int]] | None]:
    """Makes the skeleton; gives widths by layer that config.json states, if the model's own code cannot read them."""
    if not folder.raw.get(PER_LAYER):
        return skeleton(parse_pruned(folder), head), None
    try:
        return skeleton(parse_pruned(folder), head), None
    except CheckpointError as error:
        # Raised on the first read of a per-layer field that code written for one width makes.
        if type(error.__cause__).__name__ != "AmbiguousGlobalPerLayerAttributeError":
            raise
    uniform, per_layer = without_per_layer(folder)
    return skeleton(parse_pruned(uniform), head), per_layer


@dataclass(frozen=True, slots=True)
class _Layer:
    """One attention or feed-forward part beside what is stored for it."""

    model: nn.Module
    name: str
    module: nn.Module
    tensors: StoredTensors

    def linear(self, part: str) -> nn.Linear:
        linear = getattr(self.module, part)
        assert isinstance(linear, nn.Linear)
        return linear

    def stored_name(self, part: str) -> str | None:
        """Bodies are stored with and without the prefix of the model around them."""
        name, prefix = f"{self.name}.{part}.weight", f"{getattr(self.model, 'base_model_prefix', '')}."
        return next(
            (
                candidate
                for candidate in (name, name.removeprefix(prefix), prefix + name)
                if candidate in self.tensors
            ),
            None,
        )

    def shapes(self, parts: tuple[str, ...]) -> dict[str, tuple[int, ...]] | None:
        """Reads stored shapes by part; None if one is not stored, or if all are as the skeleton has them."""
        names = {part: self.stored_name(part) for part in parts}
        shapes = {part: self.tensors.shape(name) for part, name in names.items() if name is not None}
        if len(shapes) < len(parts) or any(len(shape) != 2 for shape in shapes.values()):
            return None
        same = all(shape == tuple(self.linear(part).weight.shape) for part, shape in shapes.items())
        return None if same else shapes

    def refuse(self, part: str, reason: str) -> CheckpointError:
        name = self.stored_name(part)
        assert name is not None
        return CheckpointError(f"tensor {name!r} has shape {list(self.tensors.shape(name))}, {reason}")

    def resize(self, part: str, shape: tuple[int, ...]) -> None:
        linear = self.linear(part)
        linear.out_features, linear.in_features = shape
        linear.weight = nn.Parameter(torch.empty(shape, dtype=linear.weight.dtype), requires_grad=False)
        if linear.bias is not None:
            linear.bias = nn.Parameter(torch.empty(shape[0], dtype=linear.bias.dtype), requires_grad=False)

    def note(self, field: str, stated: int, stored: int) -> list[Width]:
        """Keeps the module's copies of a config field true."""
        for copy in _COPIES[field]:
            if isinstance(getattr(self.module, copy, None), int):
                setattr(self.module, copy, stored)
        return [Width(self.name, field, stated, stored)] if stated != stored else []


def _fit_attention(layer: _Layer) -> list[Width]:
    shapes, head_dim = layer.shapes(_ATTENTION), getattr(layer.module, "head_dim", None)
    before = {part: layer.linear(part).weight.shape[0] for part in _ATTENTION}
    # A gate beside the queries, or values of another width than keys, are not what is fitted here.
    plain = layer.linear("o_proj").in_features == before["q_proj"] and before["k_proj"] == before["v_proj"]
    if shapes is None or not isinstance(head_dim, int) or not plain:
        return []
    query, key = shapes["q_proj"][0], shapes["k_proj"][0]
    _require_hidden(layer, shapes, _ATTENTION[:3], "o_proj")
    for part in ("q_proj", "k_proj"):
        if shapes[part][0] % head_dim or not shapes[part][0]:
            raise layer.refuse(part, f"whose rows are no multiple of head_dim {head_dim}")
    if shapes["v_proj"][0] != key:
        raise layer.refuse("v_proj", f"and k_proj beside it has {key} rows")
    if shapes["o_proj"][1] != query:
        raise layer.refuse("o_proj", f"and q_proj beside it has {query} rows")
    if query % key:
        raise layer.refuse(
            "q_proj", f"whose {query // head_dim} heads are no multiple of the {key // head_dim} of k_proj"
        )
    for part, shape in shapes.items():
        layer.resize(part, shape)
    layer.module.num_key_value_groups = query // key  # type: ignore[assignment]
    return [
        *layer.note(_HEADS, before["q_proj"] // head_dim, query // head_dim),
        *layer.note(_KV_HEADS, before["k_proj"] // head_dim, key // head_dim),
    ]


def _fit_feed_forward(layer: _Layer) -> list[Width]:
    shapes = layer.shapes(_FEED_FORWARD)
    if shapes is None:
        return []
    before, after = layer.linear("gate_proj").out_features, shapes["gate_proj"][0]
    _require_hidden(layer, shapes, _FEED_FORWARD[:2], "down_proj")
    if shapes["up_proj"][0] != after:
        raise layer.refuse("up_proj", f"and gate_proj beside it has {after} rows")
    if shapes["down_proj"][1] != after:
        raise layer.refuse("down_proj", f"and gate_proj beside it has {after} rows")
    for part, shape in shapes.items():
        layer.resize(part, shape)
    return layer.note(_INTERMEDIATE, before, after)


def _require_hidden(
    layer: _Layer, shapes: dict[str, tuple[int, ...]], into: tuple[str, ...], out: str
) -> None:
    """Requires a residual stream as wide everywhere: only what lies between its readers and writers can be pruned."""
    hidden = layer.linear(out).out_features
    for part in into:
        if shapes[part][1] != hidden:
            raise layer.refuse(part, f"the config expects {hidden} columns: its hidden_size")
    if shapes[out][0] != hidden:
        raise layer.refuse(out, f"the config expects {hidden} rows: its hidden_size")


def _require_stated(model: nn.Module, per_layer: dict[int, dict[str, int]]) -> None:
    """Raises CheckpointError if the fitted widths are not the ones that config.json states by layer."""
    for name, module in model.named_modules():
        number = re.search(r"layers\.(\d+)\.", f"{name}.")
        stated = per_layer.get(int(number[1]), {}) if number else {}
        for field, value in _widths_of(module).items():
            expected = stated.get(field, getattr(model.config, field))
            if value != expected:
                raise CheckpointError(
                    f"config.json says {field} {expected} for layer {number[1] if number else '?'}, the tensors of "
                    f"{name!r} have {value}: correct {PER_LAYER}"
                )


def _widths_of(module: nn.Module) -> dict[str, int]:
    head_dim, parts = getattr(module, "head_dim", None), _parts(module)
    if _ATTENTION in parts and isinstance(head_dim, int):
        query, key = (int(getattr(module, part).out_features) // head_dim for part in _ATTENTION[:2])
        return {_HEADS: query, _KV_HEADS: key}
    if _FEED_FORWARD in parts:
        return {_INTERMEDIATE: int(getattr(module, _FEED_FORWARD[0]).out_features)}
    return {}


def _parts(module: nn.Module) -> list[tuple[str, ...]]:
    """Tells which of the two kinds of layer a module is, by the projections that it has itself."""
    return [
        parts
        for parts in (_ATTENTION, _FEED_FORWARD)
        if all(isinstance(getattr(module, part, None), nn.Linear) for part in parts)
    ]


def _ranges(numbers: list[int]) -> str:
    """Writes 0, 1, 2, 5 as "0-2, 5"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
