"""What `rankport export` can be asked for: one frozen dataclass, filled by flags or by keyword arguments."""

import dataclasses
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from rankport.exporters.options.targets import ExportTargets
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.quantization.recipes import RECIPES, RecipeName
from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.tensorrt.build import BuildTarget
from rankport.runtime.bundle.manifest import NAME_PATTERN, Pooling, Precision, Target

Kind = Literal["ranker", "mix-ranker", "item-encoder"]
StrPath = str | os.PathLike[str]

_RANKERS = ("ranker", "mix-ranker")
_ONLY_FOR: dict[str, tuple[str, ...]] = {
    "labels": _RANKERS,
    "label_ids": _RANKERS,
    "max_prefix_tokens": _RANKERS,
    "judged": _RANKERS,
    "calibration": _RANKERS,
    "graphs": _RANKERS,
    "store": _RANKERS,
    "attention": _RANKERS,
    "item_encoder": ("mix-ranker",),
    "embedding_tokens": ("mix-ranker",),
    "pooling": ("item-encoder",),
    "tokens": ("item-encoder",),
    "normalize": ("item-encoder",),
    "output_dtype": ("item-encoder",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Everything about an export besides the checkpoint and the output path. None means: derived, or not given.

    Raises InvalidRequest for an option that does not belong to the kind, or that contradicts another.
    """

    kind: Kind
    name: str | None = None  # default: the output folder's name, without `.bundle`
    version: str = "1"
    prompt: StrPath | None = (
        None  # TOML; default: one prefix field and the bare item, framed as the tokenizer frames
    )
    max_prefix_tokens: int | None = None  # default: up to 1,024 within the checkpoint's windows and positions
    max_item_tokens: int | None = None  # likewise
    labels: tuple[str, ...] | None = None  # single tokens of the vocabulary; the first is the positive one
    label_ids: tuple[int, ...] | None = None
    item_encoder: StrPath | None = (
        None  # the bundle, or its fingerprint, that the mix ranker was trained with
    )
    embedding_tokens: int | None = None  # k, if item_encoder is a bare fingerprint
    pooling: Pooling | None = None  # default: what a sentence-transformers folder says
    tokens: int | None = None  # k of last-k; default 1
    normalize: bool | None = None  # default: what a sentence-transformers folder says, else no
    output_dtype: Literal["float16", "float32"] | None = None  # default float16
    judged: StrPath | None = None  # JSONL of judged requests: adds NDCG of source and bundle
    store: StrPath | None = None  # token store for keys in `judged`
    quantize: RecipeName | None = None  # to low bits at export; default: as the checkpoint is
    calibration: StrPath | None = None  # JSONL of requests that rounding is fitted to
    graphs: Literal["joint", "separate"] | None = None  # of a ranker; default: joint if low-bit
    # What graphs are made for, one or several, and plans: "onnx-cpu,tensorrt-rtx:sm86,sm89"; default: onnx-cpu.
    target: str | tuple[str, ...] | None = None
    attention: Literal["shared", "fused"] | None = None  # of a graph for CUDA; default: fused
    # Of weights, states and KV on a GPU, default: fp32; a recipe's name is `quantize` with the rest in fp32.
    precision: Precision | RecipeName | None = None
    base: StrPath | None = None  # of an adapter; default: the folder that its config names
    tolerance: Tolerance = field(default_factory=Tolerance)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidRequest(f"kind {self.kind!r} is unknown: use one of {', '.join(get_args(Kind))}")
        for option, kinds in _ONLY_FOR.items():
            if getattr(self, option) is not None and self.kind not in kinds:
                raise InvalidRequest(
                    f"{_flag(option)} belongs to --kind {' or '.join(kinds)}, not {self.kind}"
                )
        if self.store is not None and self.judged is None and self.calibration is None:
            raise InvalidRequest(
                "--store goes with --judged or --calibration: it holds the tokens of their requests' keys"
            )
        if self.quantize is not None and self.quantize not in RECIPES:
            raise InvalidRequest(f"--quantize is {self.quantize!r}: use one of {', '.join(RECIPES)}")
        if self.graphs not in (None, "joint", "separate"):
            raise InvalidRequest(f"--graphs is {self.graphs!r}: use joint or separate")
        self._check_targets()
        self._check_precision()
        if self.calibration is not None and self.recipe is None:
            raise InvalidRequest("--calibration goes with --quantize: rounding is fitted to its requests")
        if self.name is not None and not re.fullmatch(NAME_PATTERN, self.name):
            raise InvalidRequest(
                f"--name is {self.name!r}: must be 1 to 128 of A-Z a-z 0-9 . _ -, the first a letter or digit"
            )
        if self.labels is not None and self.label_ids is not None:
            raise InvalidRequest("give --labels or --label-ids, not both")
        if self.kind == "mix-ranker" and self.item_encoder is None:
            raise InvalidRequest(
                "a mix ranker needs --item-encoder: the bundle (or fingerprint) of the encoder it was trained with, "
                "so that tokens of any other encoder are refused"
            )
        for option in ("max_prefix_tokens", "max_item_tokens", "embedding_tokens", "tokens"):
            value, least = getattr(self, option), 0 if option == "max_prefix_tokens" else 1
            if value is not None and (not isinstance(value, int) or value < least):
                raise InvalidRequest(f"{_flag(option)} is {value!r}: must be a whole number from {least} on")

    def _check_targets(self) -> None:
        if len(self.targets) > 1 and self.recipe is not None:
            raise InvalidRequest(
                f"--target {','.join(self.targets)}: several targets are for models that are not quantized here; "
                "export a bundle for each"
            )

    def _check_precision(self) -> None:
        if self.precision not in (None, *get_args(Precision), *RECIPES):
            raise InvalidRequest(
                f"--precision is {self.precision!r}: use one of {', '.join((*get_args(Precision), *RECIPES))}"
            )
        if self.quantize is not None and self.precision in RECIPES and self.precision != self.quantize:
            raise InvalidRequest(
                f"--quantize {self.quantize} and --precision {self.precision} contradict each other: give one of "
                "them, or a --precision of fp32, fp16 or bf16 for what is not in low bits"
            )
        if self.attention not in (None, "shared", "fused"):
            raise InvalidRequest(f"--attention is {self.attention!r}: use shared or fused")
        if self.attention is not None and "onnx-cuda" not in self.targets:
            raise InvalidRequest("--attention goes with --target onnx-cuda: other graphs have one form of it")
        if self.chosen_precision == "fp32":
            return
        if self.targets == ("onnx-cpu",):
            raise InvalidRequest(
                f"--precision {self.precision} is for a GPU: give --target onnx-cuda or tensorrt, or leave it out"
            )

    @property
    def fused_attention(self) -> bool:
        """Whether one kernel attends to prefix and own tokens, with the prefix's KV repeated for each row."""
        return self.attention in (None, "fused")

    @property
    def recipe(self) -> RecipeName | None:
        """Low bits to export in, by either option."""
        return self.quantize or cast(RecipeName | None, self.precision if self.precision in RECIPES else None)

    @property
    def chosen_precision(self) -> Precision:
        """Of what is not low-bit: `precision`, or its default."""
        return (
            "fp32" if self.precision is None or self.precision in RECIPES else cast(Precision, self.precision)
        )

    def precision_for(self, target: Target) -> Precision:
        """A CPU computes in fp32."""
        return "fp32" if target == "onnx-cpu" else self.chosen_precision

    @property
    def targets(self) -> tuple[Target, ...]:
        """What graphs are made for: of `target`, or its default."""
        return ExportTargets.parse(self.target or "onnx-cpu").graphs

    @property
    def plans(self) -> tuple[BuildTarget, ...]:
        """Targets that plans are built for, into the bundle."""
        return ExportTargets.parse(self.target or "onnx-cpu").plans

    @property
    def chosen_target(self) -> Target:
        """The first, of which the rest of the bundle follows."""
        return self.targets[0]

    @classmethod
    def of(cls, options: dict[str, object]) -> "ExportOptions":
        """From keyword arguments; sequences become tuples. InvalidRequest names an unknown one."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                raise InvalidRequest(f"export has no option {name!r}: there are {', '.join(known)}")
        if "kind" not in options:
            raise InvalidRequest(f"export needs kind: one of {', '.join(get_args(Kind))}")
        frozen = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        if isinstance(frozen.get("labels"), str):
            frozen["labels"] = tuple(word.strip() for word in str(frozen["labels"]).split(","))
        return cls(**frozen)  # type: ignore[arg-type]


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def default_name(out: Path) -> str:
    """The output folder's name, without `.bundle`, as a model name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", out.name.removesuffix(".bundle")).lstrip("._-")[:128] or "model"
