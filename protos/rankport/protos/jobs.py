"""Offline jobs of a server, as it and its clients tell them."""

from dataclasses import dataclass, field
from enum import StrEnum

from rankport.protos.types import Side, Truncation


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"  # bad rows or not
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True where nothing changes any more."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeTask:
    """Task of a job: a file of items to a token store. What is empty or None is as `rankport encode` has it."""

    items: str  # file, folder or pattern at the server, or a URL, below one of its job roots
    store: str = ""  # "": the one that the server reads
    model: str = ""  # "": the server's only encoder
    side: Side | None = None
    id_column: str = ""
    text_columns: tuple[str, ...] = ()
    separator: str | None = None
    file_format: str = ""
    template: str = ""
    deleted_column: str = ""
    shard: str = ""
    truncation: Truncation = "truncate"
    prune: bool = False
    max_prune_share: float | None = None
    batch_size: int = 0


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Rows of the last run: each that is done with is encoded, unchanged, deleted or bad."""

    rows: int = 0
    encoded: int = 0
    unchanged: int = 0
    bad_rows: int = 0
    truncated: int = 0  # of encoded and unchanged; known at the end, as the next
    pruned: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class JobBadRow:
    """Row that could not be used."""

    line: int
    reason: str
    id: str | None
    file: str = ""  # where there are several


@dataclass(frozen=True, slots=True)
class Job:
    """Job, as far as it has come."""

    id: str
    task: EncodeTask
    state: JobState = JobState.QUEUED
    reason: str = ""  # why it failed
    fingerprint: str = ""  # of the encoder, once it has run
    counts: JobCounts = field(default_factory=JobCounts)
    total_rows: int = 0  # roughly; 0 where that is not known
    first_bad_rows: tuple[JobBadRow, ...] = ()
    created_s: float = 0.0  # Unix time; 0 of what has not been yet
    started_s: float = 0.0  # of the last run
    ended_s: float = 0.0
    runs: int = 0  # more than one: restarted that often
