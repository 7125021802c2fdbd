"""`manifest.json` as types: what a bundle is, strictly read.

Owns the schema and the rules that one value can break by itself. Rules across sections are `manifest_rules`',
its JSON is `manifest_codec`'s, files are `bundle`'s. docs/bundle-format.md states it all in prose.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT_NAME: Final = "rankport-bundle"
FORMAT_VERSION = 1
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DType = Literal["float32", "float16", "bfloat16", "int64"]
Role = Literal["prefix", "score", "encode"]
Pooling = Literal["last-k", "cls", "mean"]
Target = Literal["onnx-cpu", "tensorrt"]


class Strict(BaseModel):
    """Frozen; unknown keys, wrong types and numbers that JSON cannot write are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Adapter(Strict):
    """A PEFT adapter that was merged into its base."""

    type: str  # "LORA"
    rank: int
    alpha: float
    target_modules: list[str]
    modules_to_save: list[str]
    base: str | None  # the base's name in the adapter's config
    base_sha256: Sha256  # of the base that it was merged into


class Source(Strict):
    """Where the model came from."""

    checkpoint_sha256: Sha256  # over the config, weights and tokenizer files, by name
    architecture: str  # as in the checkpoint's config
    model_type: str
    dtype: str  # of the checkpoint's tensors
    parameters: Annotated[int, Field(gt=0)]
    tools: dict[str, str]  # versions of what exported it
    adapter: Adapter | None = None  # merged into the model at export
    notes: list[str] = []  # what was read off the tensors against the config's word


class QuantizedPart(Strict):
    """Weights that are quantized alike."""

    part: Literal["linear", "embedding"]
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
    """The requests that rounding was fitted to."""

    requests: Annotated[int, Field(gt=0)]
    tokens: Annotated[int, Field(gt=0)]
    sha256: Sha256  # of the file


class Quantization(Strict):
    """What is kept in low bits in the graphs and the weights file."""

    by: Literal["checkpoint", "export"]
    method: str
    format: str  # as the checkpoint calls it; by export, the recipe
    parts: list[QuantizedPart]
    kept: list[str]  # what stays in full precision
    calibration: Calibration | None = None

    @property
    def rounds_activations(self) -> bool:
        """Whether products see rounded inputs, so that results of equal maths differ by flips of a rounding."""
        return any(part.activations != "none" for part in self.parts)


class TensorSpec(Strict):
    """One graph input or output. A string in `shape` names a dynamic axis."""

    name: str
    dtype: DType
    shape: list[int | str]


class GraphSpec(Strict):
    """One ONNX graph of the bundle."""

    role: Role
    file: str
    opset: int
    target: Target = "onnx-cpu"  # whose operators low-bit layers are made of; "tensorrt": standard ones only
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class AxisRange(Strict):
    """The sizes a dynamic axis may take."""

    min: Annotated[int, Field(ge=0)]
    max: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class LayerKV(Strict):
    """KV width of one attention layer."""

    kv_heads: Annotated[int, Field(gt=0)]
    head_dim: Annotated[int, Field(gt=0)]


class ModelShape(Strict):
    """Widths the runtime needs."""

    hidden_size: Annotated[int, Field(gt=0)]
    vocab_size: Annotated[int, Field(gt=0)]
    layers: list[LayerKV]  # attention layers in order; empty for an item encoder


class Segment(Strict):
    """One piece of the prompt; exactly one of `text`, `special`, `field`, `item` is set."""

    text: str | None = None  # literal text, tokenized on its own
    special: list[str] | None = None  # tokens by their name in the vocabulary
    field: str | None = None  # a field of the request's prefix
    item: bool | None = None  # where the item's text, ids or embedding tokens go
    max_tokens: Annotated[int, Field(gt=0)] | None = None  # of `field` or `item`
    keep: Literal["start", "end"] = "start"  # which end survives truncation

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in _SEGMENT_SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of {', '.join(_SEGMENT_SOURCES)}, has {' and '.join(given) or 'none'}"
            )
        if not getattr(self, given[0]) or (self.special is not None and "" in self.special):
            raise ValueError(f"{given[0]} is {getattr(self, given[0])!r}: leave the segment out or fill it")
        if self.is_literal and not self.model_fields_set.isdisjoint({"max_tokens", "keep"}):
            raise ValueError(f"max_tokens and keep go with field or item: {given[0]} is never cut")
        return self

    @property
    def is_literal(self) -> bool:
        """Whether every request has the same tokens here."""
        return self.text is not None or self.special is not None


_SEGMENT_SOURCES = ("text", "special", "field", "item")


class Prompt(Strict):
    """How a request becomes token ids: the segments of the prefix and of an item."""

    prefix: list[Segment]
    item: list[Segment]

    @model_validator(mode="after")
    def _one_item_and_distinct_fields(self) -> Self:
        items = sum(segment.item is not None for segment in self.item)
        if items != 1:
            raise ValueError(f"item needs exactly one segment with item = true, has {items}")
        for index, segment in enumerate(self.prefix):
            if segment.item is not None:
                raise ValueError(f"prefix[{index}]: item = true belongs to the item's segments")
        for index, segment in enumerate(self.item):
            if segment.field is not None:
                raise ValueError(f"item[{index}]: field {segment.field!r} belongs to the prefix's segments")
        repeated = sorted({name for name in self.fields if self.fields.count(name) > 1})
        if repeated:
            raise ValueError(f"prefix: field {repeated[0]!r} is used twice")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Names that a request's prefix gives, in order."""
        return tuple(segment.field for segment in self.prefix if segment.field is not None)


class Labels(Strict):
    """The read-out: rows of the LM head for label tokens, or the outputs of a classification head."""

    source: Literal["lm_head", "classification_head"]
    names: list[str]
    ids: list[int]  # token ids for lm_head, class indices for classification_head


class Limits(Strict):
    """Longest inputs the graphs were proven for."""

    max_prefix_tokens: Annotated[int, Field(ge=0)]
    max_item_tokens: Annotated[int, Field(gt=0)]


class Embedding(Strict):
    """Embedding tokens: what an item encoder makes, or a mix ranker takes."""

    tokens: Annotated[int, Field(gt=0)]  # k
    hidden_size: Annotated[int, Field(gt=0)]
    dtype: Literal["float16", "float32"]
    pooling: Pooling | None = None  # of an item encoder
    normalize: bool | None = None


class Pairing(Strict):
    """The item encoder a mix ranker was trained with."""

    encoder_fingerprint: Sha256


class ModeParity(Strict):
    """Differences from the source in one mode."""

    mode: str
    items: int
    max_abs_error: float
    mean_abs_error: float
    kendall_tau: float
    top_k_agreement: float
    # |bundle - source| / |source|, Euclidean norms over all values; null in bundles older than the field
    relative_error: float | None = None


class Parity(Strict):
    """Measured against the checkpoint run by transformers in fp32, low-bit layers by their maths in torch."""

    backend: str
    precision: str
    max_abs_tolerance: float | None  # null where activations are rounded: max_relative_tolerance holds
    max_relative_tolerance: float | None = None
    min_kendall_tau: float
    modes: list[ModeParity]
    # The source against itself with inputs off by one part in a million, where activations are rounded.
    noise: ModeParity | None = None

    @model_validator(mode="after")
    def _one_tolerance(self) -> Self:
        if (self.max_abs_tolerance is None) == (self.max_relative_tolerance is None):
            raise ValueError("needs one of max_abs_tolerance and max_relative_tolerance")
        return self

    def share(self, mode: ModeParity) -> float:
        """The mode's error as a share of the tolerance."""
        if self.max_abs_tolerance is not None:
            error, most = mode.max_abs_error, self.max_abs_tolerance
        else:
            assert self.max_relative_tolerance is not None
            error = float("nan") if mode.relative_error is None else mode.relative_error
            most = self.max_relative_tolerance
        return error / most if most else (0.0 if error == 0 else float("inf"))

    def holds(self, mode: ModeParity) -> bool:
        """Whether the mode is within the tolerances; a NaN is not."""
        return self.share(mode) <= 1 and mode.kendall_tau >= self.min_kendall_tau

    @property
    def limits(self) -> str:
        """The tolerances in words."""
        if self.max_abs_tolerance is not None:
            return f"max abs error {self.max_abs_tolerance:.1e}, Kendall tau {self.min_kendall_tau:.4g}"
        return f"relative error {self.max_relative_tolerance:.1e}, Kendall tau {self.min_kendall_tau:.4g}"


class Quality(Strict):
    """Ranking quality on judged requests, source against bundle."""

    requests: int
    ndcg_at_1_source: float
    ndcg_at_1_bundle: float
    ndcg_at_10_source: float
    ndcg_at_10_bundle: float


class TokenizationReport(Strict):
    """How often the joined text would have tokenized differently from the joined segments."""

    samples: int
    different: int
    source: str  # where the sampled texts came from


class FileEntry(Strict):
    """One file of the bundle, relative to its directory."""

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class ManifestHeader(Strict):
    """What a reader checks before anything else."""

    format: Literal["rankport-bundle"]
    format_version: int
    fingerprint: Sha256  # see `fingerprint.fingerprint`


class ManifestDraft(Strict):
    """All that an exporter states about a bundle; the writer adds the header and the files."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: str
    kind: Literal["ranker", "item_encoder"]
    source: Source
    precision: Literal["fp32"]
    shape: ModelShape
    graphs: list[GraphSpec]
    axes: dict[str, AxisRange]
    tokenizer: str | None  # file of the bundle
    prompt: Prompt
    labels: Labels | None  # of a ranker
    limits: Limits
    embedding: Embedding | None
    pairing: Pairing | None
    tokenization: TokenizationReport | None
    parity: Parity | None
    quality: Quality | None
    quantization: Quantization | None = None
    drift: list[ModeParity] | None = None  # of a bundle quantized at export, from its full-precision source


class Manifest(ManifestDraft, ManifestHeader):
    """The whole of `manifest.json`."""

    files: list[FileEntry]
