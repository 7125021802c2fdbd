"""Parts of a manifest: where the model came from, and what of it is kept in low bits."""

from typing import Annotated, Literal

from pydantic import Field

from rankport.runtime.bundle.strict import Sha256, Strict


class Adapter(Strict):
    """Adapter of PEFT that was merged into its base."""

    type: str  # "LORA", "TRAINABLE_TOKENS"
    rank: int
    alpha: float
    target_modules: list[str]
    modules_to_save: list[str]
    base: str | None  # the base's name in the adapter's config
    base_sha256: Sha256  # of the base that it was merged into


class Source(Strict):
    """Source that the model came from."""

    checkpoint_sha256: Sha256  # over the config, weights and tokenizer files, by name
    architecture: str  # as in the checkpoint's config
    model_type: str
    dtype: str  # of the checkpoint's tensors
    parameters: Annotated[int, Field(gt=0)]
    tools: dict[str, str]  # versions of what exported it
    adapter: Adapter | None = None  # merged into the model at export
    # What was read off the tensors against the config's word, and what of the checkpoint was left out.
    notes: list[str] = Field(default_factory=list)
    overrides: list[str] = Field(default_factory=list)  # options that said otherwise than the folder
    ignored_code: list[str] = Field(default_factory=list)  # code of the checkpoint's own, left out on demand
    task: str | None = None  # whose adapter is in the weights, of a checkpoint with one for each task


class QuantizedPart(Strict):
    """Weights that are quantized alike."""

    part: Literal["linear", "experts", "embedding"]
    layers: Annotated[int, Field(gt=0)]
    weights: Annotated[int, Field(gt=0)]  # values
    bits: Annotated[int, Field(gt=0)]
    type: Literal["int", "float"]
    group_size: int | None = (
        None  # input channels that share a scale; null: an output channel or the whole tensor
    )
    symmetric: bool
    activations: str  # how inputs are rounded; "none": not at all


class Calibration(Strict):
    """Requests that rounding was fitted to."""

    requests: Annotated[int, Field(gt=0)]
    tokens: Annotated[int, Field(gt=0)]
    sha256: Sha256  # of the file
    cut: Annotated[int, Field(ge=0)] = 0  # prefixes and items whose text was cut to the bundle's limits
    passed_over: Annotated[int, Field(ge=0)] = 0  # items of the file that were not run


class Quantization(Strict):
    """Parts that are kept in low bits in the graphs and the weights file."""

    by: Literal["checkpoint", "export"]
    method: str
    format: str  # as the checkpoint calls it; by export, the recipe
    parts: list[QuantizedPart]
    kept: list[str]  # what stays in full precision
    calibration: Calibration | None = None

    @property
    def rounds_activations(self) -> bool:
        """True where products see rounded inputs, so that results of equal maths differ by flips of a rounding."""
        return any(part.activations != "none" for part in self.parts)
