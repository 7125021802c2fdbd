"""The seam between an engine and a device, named by what is taken: texts, or runs that continue a prefix.

A backend is driven by one thread at a time; on a CPU, by as many as there are passes beside each other
(`EngineConfig.instances`), and KV that is split meanwhile stays readable for those under way. It owns device memory and
padding; it knows nothing of requests, prompts or caches. A pass is *started*, and its *results* are waited for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.tokens import TokenRun, TokenRuns


class PrefixKV(Protocol):
    """Keys and values of a run of consecutive prefix tokens, resident on the backend's device. Opaque."""

    @property
    def length(self) -> int:
        """Tokens covered."""

    @property
    def nbytes(self) -> int:
        """Device bytes held."""


SplitKV = Callable[[PrefixKV, int], tuple[PrefixKV, PrefixKV]]

PrefixPieces = tuple[PrefixKV, ...]
"""Consecutive pieces of one prefix; () is the empty prefix."""


@dataclass(frozen=True, slots=True)
class PrefixBatch:
    """Runs of tokens, each continuing one of several prefixes; positions start at that prefix's length."""

    prefixes: tuple[PrefixPieces, ...]  # [prefixes]
    runs: TokenRuns  # [runs], each at least one token
    run_prefix: NDArray[np.int64]  # [runs] index into prefixes, non-decreasing
    every_token: bool = False  # results are of each token; else of the last one of each run
    apart: bool = False  # no two runs in one row, where a layout has rows of several

    @classmethod
    def of(
        cls, prefixes: Sequence[PrefixPieces], runs: Sequence[TokenRun], run_prefix: NDArray[np.int64]
    ) -> "PrefixBatch":
        """Makes a batch of runs that are apart from each other."""
        return cls(tuple(prefixes), TokenRuns.of(runs), run_prefix)

    def take(self, runs: NDArray[np.int64]) -> "PrefixBatch":
        """Takes some of the runs, ascending, apart, and the prefixes that they continue."""
        kept, places = np.unique(self.run_prefix[runs], return_inverse=True)
        prefixes = tuple(self.prefixes[prefix] for prefix in kept)
        return PrefixBatch(
            prefixes, self.runs.take(runs), places.astype(np.int64), self.every_token, apart=True
        )

    @property
    def read_tokens(self) -> NDArray[np.int64]:
        """Index of each token that a result is of. [results]"""
        return np.arange(len(self.runs.ids)) if self.every_token else self.runs.offsets[1:] - 1

    @property
    def past_lengths(self) -> NDArray[np.int64]:
        """Tokens of each prefix. [prefixes]"""
        return np.array([sum(piece.length for piece in pieces) for pieces in self.prefixes], np.int64)


class DeviceLost(Exception):  # noqa: N818  # no error of a request: it ends the engine
    """Loss of the device: it answers nothing any more, whatever it is asked."""


class WeightsChanged(DeviceLost):
    """Change of the files that a model's weights are read from in place: what it would answer is not its own."""


FloatT = TypeVar("FloatT", bound=np.floating)


@dataclass(frozen=True, slots=True)
class Started(Generic[FloatT]):
    """A pass that was started."""

    results: Callable[[], NDArray[FloatT]]  # waits; raises what went wrong
    done: bool  # nothing is left to wait for; of one backend always or never


@dataclass(frozen=True, slots=True)
class RecordingCounts:
    """Passes of a device by how their kernels were started. What was recorded once is replayed by one call."""

    launched: int = 0  # each kernel by itself
    recorded: int = 0  # for the passes that come again
    replayed: int = 0
    recording_s: float = 0.0  # that the host spent on those recorded


class TokenTable(Protocol):
    """Rows in the memory of a device, that a pass names by number: embedding tokens, or rows of a table of ids."""

    @property
    def rows(self) -> int:
        """Rows that there is room for."""

    def write(self, row: int, tokens: NDArray[np.generic]) -> None:
        """Puts rows [count, hidden] at `row` and after, behind the passes started by now. The backend's thread only."""


class PrefixBackend(Protocol):
    """Runs that continue a prefix: KV of the prefix once, then one row a run."""

    @property
    def table(self) -> TokenTable | None:
        """Table that runs may name embeddings of; None: they bring theirs."""

    @property
    def recordings(self) -> RecordingCounts | None:
        """Counts of the passes so far; None where nothing is recorded."""

    def prefill(self, batch: PrefixBatch) -> PrefixPieces:
        """Computes the KV of each run's own tokens (not of the prefix it continues). One run per prefix. [runs]"""

    def score(self, batch: PrefixBatch) -> NDArray[np.float32]:
        """Computes the read-out after each run's last token. [runs, labels]"""

    def start(self, batch: PrefixBatch) -> Started[np.float32]:
        """Starts `score`. Several may be under way; they end in order."""

    @property
    def split(self) -> SplitKV | None:
        """Splits into the first `length` tokens and the rest; 0 < length < kv.length. `kv` is not used again.

        None: a prefix also keeps states of all its tokens together, so that it is used whole or not at all.
        """

    def close(self) -> None:
        """Frees the device."""


class TokenBackend(Protocol):
    """Texts as token ids: one row for each of their tokens, padding left out."""

    def compute(self, texts: TokenRuns) -> NDArray[np.floating]:
        """Computes the rows of all tokens, in the order of the texts. [tokens, ...], in the bundle's output dtype"""

    def start(self, texts: TokenRuns) -> Started[np.floating]:
        """Starts `compute`. Several may be under way; they end in order."""

    def close(self) -> None:
        """Frees the device."""


class TextBackend(Protocol):
    """Texts as token ids: one row each."""

    def compute(self, texts: TokenRuns) -> NDArray[np.floating]:
        """Computes the row of each text. [texts, ...], in the bundle's output dtype"""

    def start(self, texts: TokenRuns) -> Started[np.floating]:
        """Starts `compute`. Several may be under way; they end in order."""

    def close(self) -> None:
        """Frees the device."""


class MarkedBackend(Protocol):
    """Texts as token ids, embeddings among them: one row for each of the bundle's markers in them."""

    def compute(self, texts: TokenRuns) -> NDArray[np.floating]:
        """Computes the rows of all markers, in the order of the texts. [markers, ...]"""

    def start(self, texts: TokenRuns) -> Started[np.floating]:
        """Starts `compute`. Several may be under way; they end in order."""

    def close(self) -> None:
        """Frees the device."""


class ArrayGraph(Protocol):
    """A graph of plain arrays. Any thread may call it."""

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Computes the graph's one output."""

    def close(self) -> None:
        """Frees the graph."""
