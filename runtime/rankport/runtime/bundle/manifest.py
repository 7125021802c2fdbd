"""`manifest.json` as types: what a bundle is, strictly read.

Owns the schema and the rules that one value can break by itself. Rules across sections are `manifest_rules`',
its JSON is `manifest_json`'s, files are `bundle`'s. docs/bundle-format.md states it all in prose.
"""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from rankport.runtime.bundle.sections.chat import Chat as Chat
from rankport.runtime.bundle.sections.embedding import Activation as Activation
from rankport.runtime.bundle.sections.embedding import ClassHead as ClassHead
from rankport.runtime.bundle.sections.embedding import DenseLayer as DenseLayer
from rankport.runtime.bundle.sections.embedding import Embedding as Embedding
from rankport.runtime.bundle.sections.embedding import Pooling as Pooling
from rankport.runtime.bundle.sections.generation import Decoding as Decoding
from rankport.runtime.bundle.sections.generation import Generation as Generation
from rankport.runtime.bundle.sections.lists import Lists as Lists
from rankport.runtime.bundle.sections.measurements import Agreement as Agreement
from rankport.runtime.bundle.sections.measurements import BatchIndependence as BatchIndependence
from rankport.runtime.bundle.sections.measurements import ModeParity as ModeParity
from rankport.runtime.bundle.sections.measurements import OrderDependence as OrderDependence
from rankport.runtime.bundle.sections.measurements import Parity as Parity
from rankport.runtime.bundle.sections.measurements import Quality as Quality
from rankport.runtime.bundle.sections.measurements import TokenizationReport as TokenizationReport
from rankport.runtime.bundle.sections.provenance import Adapter as Adapter
from rankport.runtime.bundle.sections.provenance import Calibration as Calibration
from rankport.runtime.bundle.sections.provenance import Quantization as Quantization
from rankport.runtime.bundle.sections.provenance import QuantizedPart as QuantizedPart
from rankport.runtime.bundle.sections.provenance import Source as Source
from rankport.runtime.bundle.sections.segments import Prompt as Prompt
from rankport.runtime.bundle.sections.segments import Segment as Segment
from rankport.runtime.bundle.sections.sets import Sets as Sets
from rankport.runtime.bundle.sections.tagging import Crf as Crf
from rankport.runtime.bundle.sections.tagging import Tagging as Tagging
from rankport.runtime.bundle.sections.wide import WideFeature as WideFeature
from rankport.runtime.bundle.strict import Sha256
from rankport.runtime.bundle.strict import Strict as Strict

FORMAT_NAME: Final = "rankport-bundle"
FORMAT_VERSION = 1
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
WORD_PATTERN = r"^[a-z][a-z0-9-]{0,63}$"

DType = Literal["float32", "float16", "bfloat16", "int64", "int32", "int8"]
Role = Annotated[str, Field(pattern=WORD_PATTERN)]
"""Part that a graph plays in its kind: which there are, the kind's `ManifestRules` say."""
Precision = Literal["fp32", "fp16", "bf16"]
Target = Literal["onnx-cpu", "onnx-cuda", "tensorrt"]


class TensorSpec(Strict):
    """Input or output of a graph. A string in `shape` names a dynamic axis."""

    name: str
    dtype: DType
    shape: list[int | str]


class GraphSpec(Strict):
    """Graph of the bundle, in ONNX."""

    role: Role
    file: str
    opset: int
    target: Target = "onnx-cpu"  # what it is made for; "tensorrt": standard operators only
    precision: Precision | None = None  # where it is not the manifest's
    # First version of ONNX Runtime that has its operators: of a second form of a role, after the one for all versions.
    onnxruntime: Annotated[str, Field(pattern=r"^[0-9]{1,4}\.[0-9]{1,4}$")] | None = None
    fp8_products: bool = (
        False  # multiplies fp8 by fp8: on GPUs of compute capability 8.9 and later, never recorded
    )
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


class AxisRange(Strict):
    """Sizes that a dynamic axis may take."""

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


class Labels(Strict):
    """Read-out: rows of the LM head for label tokens, or the outputs of a classification head."""

    source: Literal["lm_head", "classification_head", "token_head"]
    names: list[str]
    ids: list[int]  # token ids for lm_head, outputs of the head otherwise
    positive: Annotated[int, Field(ge=0)] = 0  # which of `names` a score speaks for
    # The token that a classification head passes over at the end: it answers at the last token that is another one.
    pad_token: Annotated[int, Field(ge=0)] | None = None


class Score(Strict):
    """Meaning of a score, and what is computed of the label logits for it."""

    kind: Literal["probability", "logit", "cosine", "log_likelihood"]
    transform: Literal["softmax", "sigmoid", "log-odds", "none", "with-end"]

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        fitting = _TRANSFORMS[self.kind]
        if self.transform not in fitting:
            raise ValueError(f"a {self.kind} is made by {' or '.join(fitting)}, not by {self.transform}")
        return self


_TRANSFORMS = {
    "probability": ("softmax", "sigmoid"),
    "logit": ("log-odds", "none"),
    "cosine": ("none",),
    "log_likelihood": ("with-end", "none"),
}


class Limits(Strict):
    """Longest inputs the graphs were proven for."""

    max_prefix_tokens: Annotated[int, Field(ge=0)]
    max_item_tokens: Annotated[int, Field(gt=0)]


class Pair(Strict):
    """Reading of prefix and item together, as two texts of one sequence, and what is cut where they are too long."""

    max_tokens: Annotated[int, Field(gt=0)]  # of both, the prompt's literal tokens too
    # `each`: prefix and item each to a limit of its own, `limits`.
    cut: Literal["longest-first", "only-first", "only-second", "each"] = "longest-first"


class Pairing(Strict):
    """Item encoder that a ranker of embedding tokens was trained with."""

    encoder_fingerprint: Sha256


class FileEntry(Strict):
    """File of the bundle, relative to its directory."""

    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class ManifestHeader(Strict):
    """Header that a reader checks before anything else."""

    format: Literal["rankport-bundle"]
    format_version: int
    fingerprint: Sha256  # see `fingerprint.fingerprint`


class ManifestDraft(Strict):
    """Statements of an exporter about a bundle; the writer adds the header and the files."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: str
    kind: Annotated[str, Field(pattern=WORD_PATTERN)]
    source: Source
    precision: Precision
    shape: ModelShape
    graphs: list[GraphSpec]
    axes: dict[str, AxisRange]
    tokenizer: str | None  # file of the bundle
    prompt: Prompt
    chat: Chat | None = None  # of a generator that takes chats: its only field is the user's one message
    labels: Labels | None  # of a ranker
    score: Score | None = None  # of a kind that answers with scores
    wide: list[WideFeature] = Field(default_factory=list)  # that a request brings, in the order of the graph
    tagging: Tagging | None = None  # of a tagger
    generation: Generation | None = None  # of a kind that writes
    sets: Sets | None = None  # of a ranker of sets
    lists: Lists | None = None  # of a ranker of lists
    limits: Limits
    pair: Pair | None = None  # of a kind that reads prefix and item in one sequence
    head: ClassHead | None = None  # of a classifier, or of a ranker that is a body without a head of its own
    embedding: Embedding | None
    pairing: Pairing | None
    # Of an item encoder: how it reads a text that is one; None: it may not.
    queries: Literal["as-items"] | None = None
    tokenization: TokenizationReport | None
    parity: Parity | None  # of the graphs for the first target
    quality: Quality | None
    quantization: Quantization | None = None
    drift: list[ModeParity] | None = None  # of a bundle quantized at export, from its full-precision source
    target_parity: dict[Target, Parity] | None = None  # of the graphs for the other targets
    agreement: Agreement | None = None  # with the owner's own scores

    @property
    def max_text_tokens(self) -> int:
        """Longest run of tokens that a graph of texts is given."""
        if self.lists is not None:
            return self.lists.max_tokens
        apart = max(self.limits.max_item_tokens, self.limits.max_prefix_tokens)
        return apart if self.pair is None else self.pair.max_tokens

    @property
    def embedded_item(self) -> Embedding | None:
        """Form of embedding tokens that take an item's place in the prompt; None of a model that makes tokens.

        Two towers score those that they make, beside the prompt.
        """
        made = self.embedding is None or self.embedding.is_output or self.kind == "two-tower"
        return None if made else self.embedding

    @property
    def on_cpu(self) -> bool:
        """Says whether ONNX Runtime on a CPU has kernels for all graphs."""
        return self.precision == "fp32" and not any(graph.fp8_products for graph in self.graphs)

    @property
    def on_cpu_alone(self) -> str | None:
        """Says what a bundle does that a CPU alone runs yet; None: nothing."""
        answers = None if self.generation is None else self.generation.decoding
        return None if answers is None else "reads a text and writes its answer"

    @property
    def without_plans(self) -> str | None:
        """Says what a bundle does that no plan of TensorRT is run for yet; None: nothing."""
        does = {"ranks sets": self.sets, "ranks lists": self.lists, "writes text": self.generation}
        return next((what for what, stated in does.items() if stated is not None), self.on_cpu_alone)

    @property
    def targets(self) -> tuple[Target, ...]:
        """Targets that there are graphs for, in their order."""
        return tuple(dict.fromkeys(graph.target for graph in self.graphs))

    def for_target(self, target: Target) -> Self:
        """Views one target's graphs alone, in their precision."""
        graphs = [graph for graph in self.graphs if graph.target == target]
        precision = next((graph.precision for graph in graphs if graph.precision is not None), self.precision)
        return self.model_copy(update={"graphs": graphs, "precision": precision, "target_parity": None})

    def for_onnxruntime(self, version: str | None) -> Self:
        """Views, of the forms of a role, the one for the latest ONNX Runtime up to `version`; None: the one for all."""
        had = (0, 0) if version is None else version_numbers(version)
        met = [graph for graph in self.graphs if version_numbers(graph.onnxruntime or "0.0") <= had]
        latest = {(graph.role, graph.target): graph for graph in sorted(met, key=_least)}
        return self.model_copy(update={"graphs": [graph for graph in met if graph in latest.values()]})

    @property
    def onnxruntimes(self) -> tuple[str, ...]:
        """Versions of ONNX Runtime from which on there are other forms of graphs, in order."""
        stated = {graph.onnxruntime for graph in self.graphs if graph.onnxruntime is not None}
        return tuple(sorted(stated, key=version_numbers))


def version_numbers(version: str) -> tuple[int, int]:
    """Reads the first two numbers of a version, such as 1.32.0 or 1.33.0.dev1; zeros where there are none."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _least(graph: GraphSpec) -> tuple[int, int]:
    return version_numbers(graph.onnxruntime or "0.0")


class Manifest(ManifestDraft, ManifestHeader):
    """Contents of `manifest.json`."""

    files: list[FileEntry]
