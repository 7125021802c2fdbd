"""Configs of a family with one field changed: every switch turned, every size and scale another."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig

_LEFT_ALONE = frozenset(
    {"vocab_size", "hidden_size", "intermediate_size", "initializer_range", "use_cache", "model_type"}
    | {field.name for field in dataclasses.fields(PreTrainedConfig)}
)
_ACTIVATIONS = frozenset({"hidden_act", "hidden_activation", "activation_function"})
_VALUES: dict[str, list[object]] = {
    "num_attention_heads": [2, 8],
    "num_key_value_heads": [1, 4],
    "head_dim": [6, 12],
    "sliding_window": [5, 16],
}
_ROPES: list[dict[str, object]] = [
    {"rope_type": "default", "rope_theta": 77.0},
    {"rope_type": "default", "partial_rotary_factor": 0.5},
    {"rope_type": "linear", "factor": 2.5},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": 1.3},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "truncate": False},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    | {"original_max_position_embeddings": 64},
]

Fields = dict[str, Any]


def flips(config: PreTrainedConfig) -> Iterator[Fields]:
    """Yields fields to set, of which many are none that the family takes."""
    for field in dataclasses.fields(type(config)):
        name, value = field.name, getattr(config, field.name, None)
        if name not in _LEFT_ALONE and not name.endswith(("_id", "_ids")):
            yield from ({name: other} for other in _others(name, value, config) if other != value)


def _others(name: str, value: object, config: PreTrainedConfig) -> list[Any]:
    if name in _VALUES:
        return _VALUES[name]
    if name in _ACTIVATIONS:
        return ["relu", "gelu", "silu"]
    if name == "rope_parameters":
        return list(_ropes(value))
    if name == "layer_types":
        kinds = sorted({"full_attention", "sliding_attention", *(getattr(config, name, None) or ())})
        count = config.num_hidden_layers
        return [
            [kinds[(place + first) % len(kinds)] for place in range(count)] for first in range(len(kinds))
        ]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [2 * value, 1] if value > 1 else [1 - value, 2]
    if isinstance(value, float):
        return [1.7 * value + 0.05]
    return [True, 2, 0.6] if value is None else []


def _ropes(value: object) -> Iterator[Fields]:
    """Yields rotary parameters, those of one kind of layers at a time where each has its own."""
    kinds = [kind for kind, own in value.items() if isinstance(own, dict)] if isinstance(value, dict) else []
    for rope in _ROPES:
        other = {"rope_theta": 10_000.0, **rope}
        if not kinds:
            yield other
        assert not kinds or isinstance(value, dict)
        yield from ({**value, kind: other} for kind in kinds)  # type: ignore[dict-item]
