"""Messages between a model and an engine in another process: which there are, and requests and counts as columns."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, Self

from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.contract import RecordingCounts
from rankport.runtime.histogram import HistogramCounts
from rankport.runtime.scheduling.counts import EngineCounts, Queue, Room, StageCounts
from rankport.runtime.scheduling.prefix_cache import CacheStats
from rankport.runtime.tokens import TokenRun, TokenRuns

Arrays = dict[str, NDArray[Any]]


class Message(IntEnum):
    """Kinds of messages. A request has one `ANSWER` or `FAILED`, whatever becomes of it, and no `PART` behind it."""

    OPEN = 1  # to the engine: load this
    OPENED = 2
    SUBMIT = 3  # to the engine
    CANCEL = 4  # to the engine
    ANSWER = 5
    FAILED = 6
    COUNTS = 7
    CLOSE = 8  # to the engine: nobody here wants it any more
    PART = 9  # of an answer, as far as it goes


@dataclass(frozen=True, slots=True)
class EngineOrder:
    """Recipe of an engine."""

    path: str  # of the bundle
    fingerprint: str
    role: str  # of its graph of texts; "": those of prefixes and items, or of sets
    row_of: str = "run"

    def values(self) -> dict[str, Any]:
        """Writes it."""
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Reads it."""
        return cls(**values)


def runs_columns(name: str, runs: TokenRuns) -> Arrays:
    """Writes runs. Raises `InvalidRequest` for embeddings that are in a device's memory alone."""
    if runs.table is not None:
        raise InvalidRequest(
            "embedding tokens on a device do not go with front processes: leave --device-tokens out"
        )
    columns: Arrays = {f"{name}.ids": runs.ids, f"{name}.offsets": runs.offsets}
    if runs.embedded is not None:
        columns[f"{name}.embedded"] = runs.embedded
    if runs.seconds is not None:
        columns[f"{name}.seconds"] = runs.seconds
    return columns | {f"{name}.block{index}": block for index, block in enumerate(runs.blocks)}


def read_runs(name: str, arrays: Mapping[str, NDArray[Any]]) -> TokenRuns:
    """Reads what `runs_columns` wrote."""
    count = sum(key.startswith(f"{name}.block") for key in arrays)
    return TokenRuns(
        arrays[f"{name}.ids"],
        arrays[f"{name}.offsets"],
        arrays.get(f"{name}.embedded"),
        tuple(arrays[f"{name}.block{index}"] for index in range(count)),
        seconds=arrays.get(f"{name}.seconds"),
    )


def run_columns(name: str, run: TokenRun) -> Arrays:
    """Writes one run."""
    columns: Arrays = {f"{name}.ids": run.ids}
    return columns if run.embeddings is None else columns | {f"{name}.rows": run.embeddings}


def read_run(name: str, arrays: Mapping[str, NDArray[Any]]) -> TokenRun:
    """Reads what `run_columns` wrote."""
    return TokenRun(arrays[f"{name}.ids"], arrays.get(f"{name}.rows"))


@dataclass(frozen=True, slots=True)
class EngineState:
    """State that an engine tells of itself, again and again."""

    alive: bool
    counts: EngineCounts
    cache: CacheStats | None  # of prefixes

    def values(self) -> dict[str, Any]:
        """Writes it."""
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Reads it."""
        cache = values["cache"]
        return cls(values["alive"], _counts(values["counts"]), None if cache is None else CacheStats(**cache))


def _counts(values: Mapping[str, Any]) -> EngineCounts:
    queue = values["queue"]
    histograms = {name: _histogram(values[name]) for name in ("pass_requests", "queue_s", "compute_s")}
    own = {
        "queue": Queue(**{**queue, "background": Room(**queue["background"])}),
        "recordings": None if values["recordings"] is None else RecordingCounts(**values["recordings"]),
        "stages": {name: StageCounts(**stage) for name, stage in values["stages"].items()},
    }
    return EngineCounts(**{**values, **own, **histograms})


def _histogram(values: Mapping[str, Any]) -> HistogramCounts:
    return HistogramCounts(tuple(values["edges"]), tuple(values["counts"]), values["total"])


def nothing_counted(device: str) -> EngineCounts:
    """Gives the counters of an engine that has said nothing yet."""
    nothing = HistogramCounts((), (0,), 0.0)
    return EngineCounts(device, Queue(0, 0, 0), {}, 0, 0.0, nothing, nothing, nothing, 0.0, "")
