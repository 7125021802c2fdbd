"""Options of every export: one frozen dataclass, filled by flags or by keyword arguments.

Each kind's own options are a subclass in its folder. Imports no torch: a slip should not cost seconds.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from rankport.exporters.options.checks import require_choice, require_count
from rankport.exporters.options.presets import BARE, CHAT, PRESET_WORDS
from rankport.exporters.options.reference_file import ReferenceTransform
from rankport.exporters.options.request_files import (
    REFERENCE_FLAG,
    TRANSFORM_FLAG,
    RequestFiles,
    StrPath,
    require_store_is_read,
    require_transform,
)
from rankport.exporters.options.targets import ExportTargets
from rankport.exporters.options.tolerance import Tolerance, require_tolerance
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from rankport.runtime.backends.tensorrt.build import BuildTarget
from rankport.runtime.bundle.manifest import NAME_PATTERN, Precision, Target

RecipeName = Literal["int8", "int8-fine", "int4", "fp8"]
RECIPE_NAMES: tuple[RecipeName, ...] = get_args(RecipeName)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Everything about an export besides kind, checkpoint and output path. None means: derived, or not given.

    Raises InvalidRequest for an option that is out of range, or that contradicts another.
    """

    name: str | None = field(
        default=None,
        metadata=flag(
            "Model name. [default: the output folder's name without .bundle, with - for what is no A-Z a-z 0-9 . _ -]"
        ),
    )
    version: str = field(default="1", metadata=flag("Model version."))
    # Default: bare, but of a ranker that says it has another.
    prompt: StrPath | None = field(
        default=None,
        metadata=flag(
            f"Prompt file (TOML: segments, limits, special tokens, labels); or a preset: {PRESET_WORDS}; or {BARE}: "
            f"fields and item alone, framed as the tokenizer frames; or, of a generator, {CHAT}: its folder's chat "
            f"template. [default: {BARE}; a ranker or generator with a chat template, or of a known family, must say]",
            metavar="FILE|NAME",
        ),
    )
    # Default: within the checkpoint's positions.
    max_item_tokens: int | None = field(
        default=None,
        metadata=flag(
            "Longest item the bundle accepts. [default: as the folder says, within the positions; else at most 1024 of "
            "a ranker, 512 of most others]"
        ),
    )
    base: StrPath | None = field(
        default=None,
        metadata=flag("Base checkpoint of an adapter. [default: the folder that its config names]"),
    )
    ignore_remote_code: bool = field(
        default=False,
        metadata=flag(
            "Export transformers' own class of a checkpoint that brings code of its own (auto_map), which is never "
            "run; the manifest says so."
        ),
    )
    quantize: RecipeName | None = field(
        default=None,
        metadata=flag(
            "Low bits at export: int8 (fastest on a CPU), int8-fine (orders more like full precision, slower), int4 "
            "(smallest) or fp8. --judged gates the ranking.",
            metavar="BITS",
        ),
    )
    target: str | tuple[str, ...] | None = field(
        default=None,
        metadata=flag(
            "What the graphs are made for: onnx-cpu and onnx-cuda, ONNX Runtime with its own operators; tensorrt, "
            "standard operators, low bits in Q/DQ form, for `rankport build`; tensorrt-rtx:sm89 or tensorrt-rtx "
            "(sm86, sm89 and sm120), the same and TensorRT plans for GPUs that need not be here, as `rankport build` "
            "makes them. Several share one bundle, joined by commas, as several architectures are. [default: onnx-cpu]",
            metavar="TARGET,...",
        ),
    )
    precision: Precision | RecipeName | None = field(
        default=None,
        metadata=flag(
            "fp32, or on a GPU fp16 or bf16: weights, states and KV; norms, softmax, rotary tables and label "
            "logits stay exact. With --quantize, of what is not in low bits. A name of --quantize: low bits of that "
            "name, the rest in fp32. [default: fp32]",
            metavar="PRECISION",
        ),
    )
    fp8_products: bool = field(
        default=False,
        metadata=flag(
            "In graphs for onnx-cuda, multiply weights in fp8 by inputs in fp8 on the tensor cores (ONNX Runtime's "
            "GemmFloat8; compute capability 8.9 and later) instead of dequantizing the weights. Each product stops the "
            "device's stream, so passes are not recorded: for wide models and large passes."
        ),
    )
    reference: StrPath | None = field(default=None, metadata=REFERENCE_FLAG)
    reference_transform: ReferenceTransform = field(default="none", metadata=TRANSFORM_FLAG)
    tolerance: Tolerance = field(default_factory=Tolerance)
    overwrite: bool = field(default=False, metadata=flag("Replace a bundle that is already at --out."))

    def __post_init__(self) -> None:
        require_tolerance(
            self.tolerance,
            judged=self.requests.judged is not None,
            reference=self.requests.reference is not None,
        )
        require_choice("quantize", self.quantize, RECIPE_NAMES)
        require_transform(self.reference, self.reference_transform)
        require_choice("precision", self.precision, (*get_args(Precision), *RECIPE_NAMES))
        self._check_targets()
        self._check_precision()
        if self.name is not None and not re.fullmatch(NAME_PATTERN, self.name):
            raise InvalidRequest(
                f"--name is {self.name!r}: must be 1 to 128 of A-Z a-z 0-9 . _ -, the first a letter or digit"
            )
        if not self.version.strip() or not self.version.isprintable() or len(self.version) > 128:
            raise InvalidRequest(f"--version is {self.version!r:.140}: give 1 to 128 characters of a line")
        require_count("max_item_tokens", self.max_item_tokens, least=1)

    def _check_targets(self) -> None:
        if len(self.targets) > 1 and self.recipe is not None:
            raise InvalidRequest(
                f"--target {','.join(self.targets)}: several targets are for models that are not quantized here; "
                "export a bundle for each"
            )
        if self.fp8_products and "onnx-cuda" not in self.targets:
            raise InvalidRequest(
                f"--fp8-products is for graphs of ONNX Runtime on CUDA, not of {','.join(self.targets)}: add --target "
                "onnx-cuda, or leave it out"
            )

    def _check_precision(self) -> None:
        if self.quantize is not None and self.precision in RECIPE_NAMES and self.precision != self.quantize:
            raise InvalidRequest(
                f"--quantize {self.quantize} and --precision {self.precision} contradict each other: give one of "
                "them, or a --precision of fp32, fp16 or bf16 for what is not in low bits"
            )
        if self.chosen_precision != "fp32" and self.targets == ("onnx-cpu",):
            raise InvalidRequest(
                f"--precision {self.precision} is for a GPU: give --target onnx-cuda or tensorrt, or leave it out"
            )

    @property
    def task(self) -> str | None:
        """Task that is asked for of a checkpoint with an adapter for each."""
        return None

    @property
    def requests(self) -> RequestFiles:
        """The files of real requests."""
        return RequestFiles(reference=self.reference, reference_transform=self.reference_transform)

    @property
    def recipe(self) -> RecipeName | None:
        """Low bits to export in, by either option."""
        return self.quantize or (self.precision if self.precision in RECIPE_NAMES else None)

    @property
    def chosen_precision(self) -> Precision:
        """The precision of what is not low-bit: `precision`, or its default."""
        return "fp32" if self.precision in (None, *RECIPE_NAMES) else cast(Precision, self.precision)

    def precision_for(self, target: Target) -> Precision:
        """Gives the precision of a target's graphs: a CPU computes in fp32."""
        return "fp32" if target == "onnx-cpu" else self.chosen_precision

    @property
    def targets(self) -> tuple[Target, ...]:
        """Targets that graphs are made for: `target`, or its default."""
        return ExportTargets.parse(self.target or "onnx-cpu").graphs

    @property
    def plans(self) -> tuple[BuildTarget, ...]:
        """Targets that plans are built for, into the bundle."""
        return ExportTargets.parse(self.target or "onnx-cpu").plans

    @property
    def chosen_target(self) -> Target:
        """The first target, which the rest of the bundle follows."""
        return self.targets[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions(ExportOptions):
    """The options of a kind that answers requests, which it can be judged and calibrated on."""

    judged: StrPath | None = field(
        default=None,
        metadata=flag('JSONL of judged requests: {"prefix":…, "items":[…], "gains":[…]}.'),
    )
    calibration: StrPath | None = field(
        default=None,
        metadata=flag('JSONL of real requests that rounding is fitted to: {"prefix":…, "items":[…]}.'),
    )
    store: StrPath | None = field(
        default=None, metadata=flag("Token store for keys in --judged, --calibration and --reference.")
    )

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_store_is_read(self.requests)
        if self.calibration is not None and self.recipe is None:
            raise InvalidRequest("--calibration goes with --quantize: rounding is fitted to its requests")

    @property
    def requests(self) -> RequestFiles:
        """The files of real requests."""
        return RequestFiles(
            self.judged, self.calibration, self.store, self.reference, self.reference_transform
        )


def option_names(options: type[ExportOptions]) -> tuple[str, ...]:
    """Lists the options that there are."""
    return tuple(option.name for option in dataclasses.fields(options))


def default_name(out: Path) -> str:
    """Makes a model name of the output folder's: without `.bundle`, with "-" for what a name may not have."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", out.name.removesuffix(".bundle")).lstrip("._-")[:128] or "model"
