"""`LlamaBidirectionalConfig`: a Llama whose tokens see each other both ways, and how a head reads its states."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import transformers
from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig, PreTrainedConfig

from rankport.runtime.bundle.manifest import Pooling

MODEL_TYPE: Final = "llama_bidirec"
_POOLINGS: Mapping[str, Pooling] = MappingProxyType({"avg": "mean", "cls": "cls", "last": "last-k"})
"""Average of a text's states, or the state at its first or last token: by the name that the config has."""


@strict
class LlamaBidirectionalConfig(LlamaConfig):  # type: ignore[no-untyped-call]
    """Fields of a Llama, and two of its head. `is_causal` is transformers' own word for reading both ways."""

    model_type = MODEL_TYPE
    is_causal: bool = False
    pooling: str = "avg"
    temperature: float | int = 1.0

    def validate_reading(self) -> None:
        """Raises ValueError for what the published classes do not compute."""
        if self.is_causal:
            raise ValueError(f"is_causal is true, and {MODEL_TYPE} reads both ways: set it to false")
        if self.pooling not in _POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}, must be one of {', '.join(_POOLINGS)}")
        if not self.temperature > 0:
            raise ValueError(
                f"temperature is {self.temperature!r}, by which logits are divided: must be above 0"
            )


transformers.AutoConfig.register(MODEL_TYPE, LlamaBidirectionalConfig, exist_ok=True)


def notes_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes of a folder's config.json whose own code has these classes, and was not run."""
    if raw.get("model_type") != MODEL_TYPE or "auto_map" not in raw:
        return ()
    return (
        f"config.json: auto_map names code for {MODEL_TYPE}, which was not run: reading both ways, pooling and "
        "temperature are those of the published llama-nemotron models",
    )


def pooling_of(config: PreTrainedConfig) -> Pooling | None:
    """Gives the pooling that such a config states; None of another."""
    return _POOLINGS[config.pooling] if isinstance(config, LlamaBidirectionalConfig) else None
