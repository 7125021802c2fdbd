"""The kind that a checkpoint is of, where nobody said it, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.table import EXPORT_KINDS
from rankport.exporters.kinds.tasks import InferredTask, inferred_task
from rankport.exporters.kinds.work import work_of
from rankport.exporters.options.request_files import StrPath
from rankport.protos.errors import InvalidRequest

_HEADS = {
    "lm_head": "with an LM head",
    "seq2seq_lm_head": "of encoder and decoder, with an LM head",
    "masked_lm_head": "with a head for masked tokens",
    "classification_head": "with a classification head",
    "token_head": "with a head for each token",
    "towers": "of two towers",
    "sets": "of sets",
    "list": "of lists",
    "none": "without a head",
}


@dataclass(frozen=True, slots=True)
class ClaimedKind:
    """A kind, and the reason in words."""

    kind: ExportKind
    reason: str

    @property
    def name(self) -> str:
        """The kind's name."""
        return self.kind.name

    def __str__(self) -> str:
        """Returns the line that people read: `kind: ranker (optimum: text-generation of transformers; ...)`."""
        return f"kind: {self.name} ({self.reason})"


def claimed_kind(
    checkpoint: StrPath, base: StrPath | None = None, kinds: Sequence[ExportKind] = EXPORT_KINDS
) -> ClaimedKind:
    """Finds the one kind that claims a checkpoint and, where several do, does the task that optimum infers.

    `base` is an adapter's.

    Raises:
        InvalidRequest: none claims it, or several do and the task does not tell them apart.
        CheckpointError: the folder cannot be read.
    """
    model = StatedModel.read(Path(checkpoint), None if base is None else Path(base))
    inferred = inferred_task(model)
    claimants = [kind for kind in kinds if work_of(kind).claims(model)]
    chosen = [kind for kind in claimants if kind.name in inferred.kinds] or claimants
    if len(chosen) == 1:
        others = [kind.name for kind in claimants if kind not in chosen]
        return ClaimedKind(chosen[0], _reason(model, inferred, others))
    said = f"checkpoint {str(model.path)!r} ({model.architecture})"
    if chosen:
        names = " or ".join(kind.name for kind in chosen)
        raise InvalidRequest(f"{said} may be {names}: say which with --kind ({inferred.reason})")
    known = ", ".join(kind.name for kind in kinds)
    raise InvalidRequest(f"{said} is claimed by no kind: say --kind, one of {known} ({inferred.reason})")


def _reason(model: StatedModel, inferred: InferredTask, others: Sequence[str]) -> str:
    pools = ", pooled by its modules.json" if model.makes_embeddings else ""
    also = f"; --kind {' or '.join(others)} is possible too" if others else ""
    return f"{inferred.reason}; {model.architecture} {_HEADS[model.head]}{pools}{also}"
