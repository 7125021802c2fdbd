"""Messages between a model and an engine in another process: which there are, and requests and counts as columns."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import RecordingCounts
from rankport.runtime.backends.set_contract import RowCounts
from rankport.runtime.histogram import HistogramCounts
from rankport.runtime.scheduling.counts import CacheStats, EngineCounts, Queue, Room, StageCounts
from rankport.runtime.tokens import TableRows, TokenRun, TokenRuns

Arrays = dict[str, NDArray[Any]]


class Message(IntEnum):
    """Kinds of messages.

    A request has one `ANSWER`, `FAILED` or `ABSENT`, whatever becomes of it, and no `PART` behind it.
    """

    OPEN = 1  # to the engine: load this
    OPENED = 2
    SUBMIT = 3  # to the engine
    CANCEL = 4  # to the engine
    ANSWER = 5
    FAILED = 6
    COUNTS = 7
    CLOSE = 8  # to the engine: nobody here wants it any more
    PART = 9  # of an answer, as far as it goes
    ABSENT = 10  # the device has no tokens of some keys, and nothing was queued


class AbsentKeysError(Exception):
    """Says which keys of a request the engine's device has no tokens of; it is to be sent again with these."""

    def __init__(self, keys: NDArray[np.int64]) -> None:
        """Takes the places of the keys among those that were sent. [keys]"""
        super().__init__(f"{len(keys)} keys are not on the device")
        self.keys = keys


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
    """Writes runs; embeddings that the engine's device has are written as the keys of their items."""
    columns: Arrays = {f"{name}.ids": runs.ids, f"{name}.offsets": runs.offsets}
    if runs.table is not None:
        columns |= _table_columns(name, runs.table)
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
        _read_table(name, arrays),
        seconds=arrays.get(f"{name}.seconds"),
    )


def _table_columns(name: str, table: TableRows) -> Arrays:
    """Writes rows, the keys that they are of as one text, and where each ends in it."""
    assert table.keys is not None, "rows of this process's own device"
    text = "".join(table.keys).encode("utf-8", "surrogatepass")
    ends = np.cumsum(np.fromiter(map(len, table.keys), np.int64, len(table.keys)))
    return {f"{name}.rows": table.rows, f"{name}.keys": np.frombuffer(text, np.uint8), f"{name}.ends": ends}


def _read_table(name: str, arrays: Mapping[str, NDArray[Any]]) -> TableRows | None:
    if f"{name}.rows" not in arrays:
        return None
    text = arrays[f"{name}.keys"].tobytes().decode("utf-8", "surrogatepass")
    ends = arrays[f"{name}.ends"].tolist()
    keys = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return TableRows(arrays[f"{name}.rows"], (), keys)


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
    resident: int = 0  # items whose embedding tokens are on the device

    def values(self) -> dict[str, Any]:
        """Writes it."""
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Reads it."""
        cache = values["cache"]
        own = None if cache is None else CacheStats(**cache)
        return cls(values["alive"], _counts(values["counts"]), own, values["resident"])


def _counts(values: Mapping[str, Any]) -> EngineCounts:
    queue = values["queue"]
    histograms = {name: _histogram(values[name]) for name in ("pass_requests", "queue_s", "compute_s")}
    own = {
        "queue": Queue(**{**queue, "background": Room(**queue["background"])}),
        "recordings": None if values["recordings"] is None else RecordingCounts(**values["recordings"]),
        "rows": None if values["rows"] is None else RowCounts(**values["rows"]),
        "stages": {name: StageCounts(**stage) for name, stage in values["stages"].items()},
    }
    return EngineCounts(**{**values, **own, **histograms})


def _histogram(values: Mapping[str, Any]) -> HistogramCounts:
    return HistogramCounts(tuple(values["edges"]), tuple(values["counts"]), values["total"])


def nothing_counted(device: str) -> EngineCounts:
    """Gives the counters of an engine that has said nothing yet."""
    nothing = HistogramCounts((), (0,), 0.0)
    return EngineCounts(device, Queue(0, 0, 0), {}, 0, 0.0, nothing, nothing, nothing, 0.0, "")
