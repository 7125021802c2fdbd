"""`ExportWork`: what an export does for one kind of models and not for another.

Owns the seam between the steps of an export and the kinds. A new kind fills one, and adds a row to the table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from rankport.exporters.checkpoints.checkpoint import Checkpoint, WantedHead
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.options.check_requests import RequestForm
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.exporters.options.request_files import StrPath
from rankport.exporters.proof.prove import Measure, Progress
from rankport.exporters.quantization.calibration import InputSums
from rankport.runtime.bundle.manifest import (
    ClassHead,
    Embedding,
    Generation,
    Labels,
    Limits,
    Lists,
    ManifestDraft,
    ModelShape,
    Pair,
    Pairing,
    Precision,
    Score,
    Sets,
    Tagging,
    Target,
    WideFeature,
)
from rankport.runtime.prompt.tokenizer import Tokenizer

OptionsT = TypeVar("OptionsT", bound=ExportOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """Decisions of a kind about an export, before any trace. Holds no model: a quantized one has the same plan."""

    shape: ModelShape
    limits: Limits
    pair: Pair | None = None
    labels: Labels | None = None
    score: Score | None = None
    wide: tuple[WideFeature, ...] = ()
    head: ClassHead | None = None
    embedding: Embedding | None = None
    pairing: Pairing | None = None
    queries: Literal["as-items"] | None = None
    tagging: Tagging | None = None
    generation: Generation | None = None
    sets: Sets | None = None
    lists: Lists | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)  # of the bundle, beside graphs and tokenizer
    overrides: tuple[str, ...] = ()  # options that say otherwise than the checkpoint's folder
    graphs: Callable[[Checkpoint, Target, Precision], dict[str, RoleGraph]]  # traces them; by name


Calibrate = Callable[[Checkpoint, ManifestDraft, Tokenizer | None, Path, StrPath | None, Progress], InputSums]
"""Runs a file of requests through a source. The draft says how they become tokens, the store holds their keys' tokens.

Raises InvalidRequest for a file that cannot be used; the message names the line.
"""


def _no_check(checkpoint: Path, options: ExportOptions) -> None:
    """Checks nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportWork(Generic[OptionsT]):
    """The part of an export that one kind does."""

    # Whether a checkpoint is of this kind, for all that its folder says.
    claims: Callable[[StatedModel], bool]
    head: WantedHead  # what is loaded of a checkpoint: the bare body, or the class with its own head
    check: Callable[[Path, OptionsT], None] = _no_check  # what its folder's small files tell, before any load
    prompt: Callable[[Checkpoint, OptionsT], ResolvedPrompt]
    plan: Callable[[Checkpoint, ResolvedPrompt, OptionsT], ExportPlan]
    measure: Measure
    calibrate: Calibrate | None = None  # None: takes no requests to calibrate on
    finds_loud: bool = False  # whether low bits leave out loud columns, which a run of drawn ids finds
    # What requests must fit, by the small files of a checkpoint; None: nothing is known before it is loaded.
    request_form: Callable[[Path, OptionsT], RequestForm] | None = None


def work_of(kind: ExportKind) -> ExportWork[Any]:
    """Imports what a kind does, and torch with it."""
    work = import_module(kind.work).WORK
    assert isinstance(work, ExportWork), kind.work
    return work
