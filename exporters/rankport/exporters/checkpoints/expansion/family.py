"""The original model of an expanded one: Control LLM keeps its fields in config.json and replaces its names."""

from dataclasses import dataclass
from typing import Any

from rankport.protos.errors import CheckpointError

EXPANDED_TYPE = "causallmexpansion"
_GENERIC = ("CausalLM", "Model", "?")
"""What is left of the class names that Control LLM registers, which say nothing of the family."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family that Control LLM expands."""

    model_type: str
    classes: str  # LlamaForCausalLM is Llama's
    fields: tuple[str, ...]  # written to config.json by this family and none below it in FAMILIES


FAMILIES = (
    Family("mixtral", "Mixtral", ("num_local_experts",)),
    Family("qwen2", "Qwen2", ("use_sliding_window", "max_window_layers")),
    Family("mistral", "Mistral", ("sliding_window",)),
    Family("llama", "Llama", ("mlp_bias", "pretraining_tp", "attention_bias")),
)


def original_config(raw: dict[str, Any]) -> dict[str, Any]:
    """Makes config.json the original model's, with the layers that it has now. Raises CheckpointError."""
    family = _family(raw)
    return {key: value for key, value in raw.items() if key not in ("expansion", "auto_map")} | {
        "model_type": family.model_type,
        "architectures": [f"{family.classes}ForCausalLM"],
    }


def _family(raw: dict[str, Any]) -> Family:
    named = str((raw.get("architectures") or ["?"])[0])
    original = named.removesuffix("Expansion")
    if original in _GENERIC:
        family = next((family for family in FAMILIES if any(field in raw for field in family.fields)), None)
    else:
        classes = original.split("For")[0].removesuffix("Model")
        family = next((family for family in FAMILIES if family.classes == classes), None)
    if family is None:
        known = ", ".join(f"{family.classes}ForCausalLMExpansion" for family in FAMILIES)
        raise CheckpointError(
            f"config.json: architectures is {[named]}, which is no expansion of a supported family: "
            f"it must be one of {known}"
        )
    return family
