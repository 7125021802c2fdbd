"""Facts of a decoder when it is run: its KV widths, and whether shared-prefix scoring is exact for it.

Widths are read off a real run, never from a family's name. What the run shows not to fit is refused here, with the
reason; fields of configs are refused where they are read, in `checkpoints`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.raised_in import raising_module
from rankport.exporters.kinds.decoders.module import (
    DecoderModule,
    scaling_by_place,
    shared_prefix_mode,
    switching_rotary,
    takes,
)
from rankport.exporters.kinds.decoders.packed_attention import PackedPrefix
from rankport.exporters.kinds.decoders.recurrence import carrying_layer
from rankport.exporters.kinds.decoders.shared_prefix import SharedPrefix
from rankport.exporters.kinds.decoders.windows import read_windows
from rankport.protos.errors import CheckpointError, RankportError
from rankport.runtime.bundle.manifest import LayerKV, Limits, Target

_KEEPS_NOTHING = ("mlp", "moe")
"""Kinds of layers that compute each token by itself."""
_STATEFUL = ("mamba", "ssm", "recurrent", "rwkv", "lightning", "gateddelta", "linearattention", "conv")

_MANY_TOKENS = 160
"""Tokens of an item long enough for keys of several tokens together: DeepSeek-V4 makes some of 128."""
_MOST_OFF = 0.05
"""Largest difference of items together and alone, as a share of the largest logit: rounded activations move some."""


@dataclass(frozen=True, slots=True)
class Hybrid:
    """Facts of a decoder with recurrent layers."""

    carried: tuple[str, ...]  # what recurrent layers carry on: see `SharedPrefix.carried`
    shapes: tuple[tuple[int, ...], ...]  # of what is carried on, of one prefix

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the recurrent layers."""
        return tuple(dict.fromkeys(carrying_layer(name) for name in self.carried))


@dataclass(frozen=True, slots=True)
class Survey:
    """Facts of one decoder."""

    layers: tuple[LayerKV, ...]
    windows: Mapping[int, int]  # by layer, of those that do not see all of the past
    bound: int | None  # tokens beyond which a layer attends as no graph does: see `Windows.bound`
    max_positions: int | None  # beyond this the checkpoint has no (or other) position encodings
    states: int | None = None  # width of the last states, where a prefix keeps them for their average
    hybrid: Hybrid | None = None  # where not all layers are of attention

    def require_recurrent(self, targets: Sequence[Target], *, grouped: bool = False) -> None:
        """Raises CheckpointError for recurrent layers where graphs have no operators for them.

        `grouped`: graphs have ONNX Runtime's GroupQueryAttention too.
        """
        if self.hybrid is None:
            return
        layers = f"layers {list(self.hybrid.layers)} are recurrent"
        if "tensorrt" in targets:
            raise CheckpointError(
                f"{layers}, which graphs for tensorrt do not compute yet: export for --target onnx-cpu, onnx-cuda or "
                "both"
            )
        if grouped:
            raise CheckpointError(
                f"{layers}, whose items --attention grouped does not tell apart: take --attention fused or shared"
            )

    def check_length(self, max_prefix_tokens: int, max_item_tokens: int) -> None:
        """Raises CheckpointError if prefix + item exceed the position encodings, or what graphs attend to."""
        total = max_prefix_tokens + max_item_tokens
        for what, limit in (("span of attention", self.bound), ("position encodings", self.max_positions)):
            if limit is not None and total > limit:
                raise CheckpointError(
                    f"max prefix tokens {max_prefix_tokens} + max item tokens {max_item_tokens} = {total} exceed the "
                    f"checkpoint's {what} of {limit} tokens, beyond which prefix reuse is not exact: "
                    f"lower --max-prefix-tokens or --max-item-tokens"
                )

    def windows_within(self, limits: Limits) -> Mapping[int, int]:
        """Picks the windows that prefix and item together exceed: the others hide nothing."""
        total = limits.max_prefix_tokens + limits.max_item_tokens
        return {layer: window for layer, window in self.windows.items() if window < total}


def survey(module: DecoderModule) -> Survey:
    """Runs the model on a few tokens. Raises CheckpointError with the reason if it cannot be exported exactly."""
    model = module.model
    _require_positions_and_embeddings_only(module)
    items = torch.tensor([[1, 2, 3], [3, 2, 1], [2, 3, 1]]) % module.embed_tokens.num_embeddings
    with shared_prefix_mode(module), torch.no_grad():
        first, shared = run_items(module, items)
        changed = items.clone()
        changed[0] = changed[0].flip(0)
        second, _ = run_items(module, changed)
        run_items(module, _long_item(module))
    _require_every_layer(model, shared)
    _require_independent_items(model, first, second)
    _require_items_as_alone(module, items, first)
    keys = [key for key, _ in shared.new.values()]  # values are as wide
    layers = tuple(LayerKV(kv_heads=key.shape[1], head_dim=key.shape[-1]) for key in keys)
    with _reported(model, "does not run on text alone"):
        windows = read_windows(module)
    width = None if shared.states is None else shared.states.shape[-1]
    return Survey(layers, windows.by_layer, windows.bound, _max_positions(model), width, _hybrid(shared))


def _long_item(module: DecoderModule) -> Tensor:
    count = min(_max_positions(module.model) or _MANY_TOKENS, _MANY_TOKENS)
    item: Tensor = torch.arange(count)[None] % module.embed_tokens.num_embeddings
    return item


def _hybrid(shared: SharedPrefix) -> Hybrid | None:
    if not shared.carried:
        return None
    shapes = tuple(tuple(states.shape[1:]) for states in shared.carried.values())
    return Hybrid(tuple(shared.carried), shapes)


def run_items(
    module: DecoderModule, items: Tensor, by_group: frozenset[int] = frozenset()
) -> tuple[Tensor, SharedPrefix]:
    """Runs items [items, tokens] without a prefix, in `shared_prefix_mode`: logits [items, labels], what is kept."""
    count, length = items.shape
    packed = torch.arange(count * length)
    shared = PackedPrefix(packed.reshape(1, count, length), packed, torch.tensor([0]), None, by_group)
    positions = torch.arange(length).repeat(count)
    inputs = module.inputs(items.flatten())
    with _reported(
        module.model,
        "attends by code of its own, beside transformers' attention interface or with a mask that a pass of several "
        "items has not",
    ):
        logits = module.logits(inputs, positions, packed.reshape(count, length)[:, -1], shared)
    return logits, shared


@contextmanager
def _reported(model: nn.Module, why: str) -> Iterator[None]:
    """Says `why` the module whose own code raises on a tiny input cannot be run so."""
    try:
        yield
    except RankportError:
        raise
    except Exception as error:
        part = raising_module(error) or model
        inside = "" if part is model else f" of {type(model).__name__}"
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{type(part).__name__}{inside} {why} ({reason})") from error


def _require_positions_and_embeddings_only(module: DecoderModule) -> None:
    """Refuses a model that looks at the id again where graphs see a token as its embedding and its position."""
    ids = torch.tensor([[1, 2, 3]]) % module.embed_tokens.num_embeddings
    with torch.no_grad():
        with _reported(module.model, "does not run on text alone"):
            expected = _run_alone(module, input_ids=ids)
        if not module.takes_embeddings:
            return
        with _reported(module.model, "uses token ids beside their embeddings: it takes no embedding tokens"):
            actual = _run_alone(module, inputs_embeds=module.embed_tokens(ids))
    off = (expected - actual).abs().max().item()
    if off > 1e-5 * max(1.0, expected.abs().max().item()):
        raise CheckpointError(
            f"{type(module.model).__name__} uses token ids beside their embeddings (hidden states differ by {off:.1e} "
            "without them): it takes no embedding tokens, leave --item-encoder out"
        )


def _run_alone(module: DecoderModule, **inputs: Tensor) -> Tensor:
    """Runs the model the plain way: logits of its head, or the last states of a body. [items, tokens, width]"""
    model = module.model.base_model if module.classifies else module.model
    output = model(**inputs, use_cache=False)  # type: ignore[operator]
    return output.last_hidden_state if module.classifies else output.logits  # type: ignore[no-any-return]


def _require_every_layer(model: nn.Module, shared: SharedPrefix) -> None:
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    # A layer may hold several attention modules, each numbered as a layer of its own.
    numbered = {getattr(part, "layer_idx", None) for part in model.modules()}
    # A tower may be told by a number below 0 which of its layers is read.
    expected = set(range(config.num_hidden_layers)) | {
        layer for layer in numbered if isinstance(layer, int) and layer >= 0
    }
    carrying = {carrying_layer(name) for name in shared.carried}
    types = dict(enumerate(getattr(config, "layer_types", None) or ()))
    by_token = {layer for layer, kind in types.items() if kind in _KEEPS_NOTHING}
    missing = sorted(expected - shared.places.keys() - carrying - by_token)
    if not missing and not shared.new:
        raise CheckpointError(
            f"{type(model).__name__} has recurrent layers alone: a prefix is kept beside the KV of layers of attention"
        )
    if not missing:
        return
    named = {types[layer] for layer in missing if layer in types}
    kinds = f" ({', '.join(sorted(named))})" if named else ""
    raise CheckpointError(
        f"layers {missing}{kinds} of {type(model).__name__} do not go through transformers' attention interface"
        f"{_stateful_modules(model)}: their state cannot be shared as prefix KV"
    )


def _require_independent_items(model: nn.Module, first: Tensor, second: Tensor) -> None:
    # Only item 0 differs between the runs: whatever else moved leaked from one item into another.
    leak = (first[1:] - second[1:]).abs().max().item()
    if leak > 1e-5 * max(1.0, first.abs().max().item()):
        raise CheckpointError(
            f"{type(model).__name__} mixes tokens outside attention{_stateful_modules(model)}: "
            f"changing one item moved another's logits by {leak:.1e}, so items cannot share a pass"
        )


def _require_items_as_alone(module: DecoderModule, items: Tensor, together: Tensor) -> None:
    """Refuses a model whose items, beside each other in a pass, are not what they are alone."""
    if module.pooling != "last-k":
        return
    with torch.no_grad():
        last = _run_alone(module, input_ids=items)[:, -1]
        alone = module.head(last) if module.classifies else last[:, list(module.ids)]
    off = (alone - together).abs().max().item()
    if off <= _MOST_OFF * alone.abs().max().item():
        return
    name = type(module.model).__name__
    why = "" if takes(module.model, "position_ids") else "it takes no position_ids, so "
    raise CheckpointError(
        f"{name} computes something else of items that share a pass (logits differ by {off:.1e}): {why}an item cannot "
        "stand right behind a prefix that others share"
    )


def _stateful_modules(model: nn.Module) -> str:
    own = (model, model.base_model)
    # GPT-2's Conv1D is a linear layer.
    names = {type(part).__name__ for part in model.modules() if part not in own} - {"Conv1D"}
    stateful = sorted(name for name in names if any(part in name.lower() for part in _STATEFUL))
    return f" (recurrent or convolutional: {', '.join(stateful)})" if stateful else ""


def _max_positions(model: nn.Module) -> int | None:
    """Finds up to where position encodings exist, and frequencies and scales are the ones of short sequences."""
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    # The latter of decoders beside an encoder (Whisper).
    names = ("max_position_embeddings", "max_target_positions")
    limits = [getattr(config, name, None) for name in names]
    if switching_rotary(model):
        limits += _short_lengths(getattr(config, "rope_parameters", None) or {})
    limits += [int(attention.floor_scale) - 1 for attention in scaling_by_place(model)]  # type: ignore[arg-type]
    return min((limit for limit in limits if limit is not None), default=None)


def _short_lengths(rope: Mapping[str, Any]) -> list[int]:
    """Lists up to where the frequencies of longrope are those of short sequences, in each kind of layer.

    Dynamic ones change beyond `max_position_embeddings`, whatever else the config says of lengths.
    """
    parts = [rope, *(part for part in rope.values() if isinstance(part, Mapping))]
    return [part["original_max_position_embeddings"] for part in parts if part.get("rope_type") == "longrope"]
