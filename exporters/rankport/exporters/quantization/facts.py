"""Facts of what is low-bit in a model, in words and numbers: for the manifest, and for people."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchemeFacts:
    """Layers that are quantized alike."""

    part: str  # "linear" | "experts" | "embedding"
    layers: int
    weights: int  # values
    bits: int
    type: str  # "int" | "float"
    group_size: int | None  # None: one scale an output channel (or tensor)
    symmetric: bool
    activations: str  # see `Activation.name`; "none": full precision


@dataclass(frozen=True, slots=True)
class QuantizationFacts:
    """The way in which a checkpoint or an export was quantized."""

    method: str  # "compressed-tensors", "gptq", or the method of an export
    format: str  # as the checkpoint names it; of an export the name of the recipe
    schemes: tuple[SchemeFacts, ...]
    kept: tuple[str, ...]  # modules with weight matrices that stay in full precision
