"""The seam between the engine and a device: ragged batches in, logits or KV handles out.

A backend is driven by one thread at a time. It owns device memory and padding; it knows nothing of requests,
prompts or caches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

EMBEDDED = -1
"""The token id that stands for "the next row of the batch's embeddings"."""


class PrefixKV(Protocol):
    """Keys and values of a run of consecutive prefix tokens, resident on the backend's device. Opaque."""

    @property
    def length(self) -> int:
        """Tokens covered."""

    @property
    def nbytes(self) -> int:
        """Device bytes held."""


@dataclass(frozen=True, slots=True)
class Resident:
    """Embedding tokens of one item that lie in the backend's memory already."""

    rows: NDArray[np.int64]  # [k] of its `TokenTable`
    kept: object  # while it is referred to, the rows are given to no other item


@dataclass(frozen=True, slots=True)
class TokenRun:
    """The tokens of one item, or of one piece of a prefix."""

    ids: NDArray[np.int64]  # [tokens], EMBEDDED where the next row of `embeddings`, or of `resident`, stands
    embeddings: NDArray[np.float32] | None = None  # [count of EMBEDDED, hidden]
    resident: Resident | None = None  # in the place of `embeddings`


@dataclass(frozen=True, slots=True)
class RaggedBatch:
    """Runs of tokens, each continuing one of several prefixes; positions start at that prefix's length."""

    prefixes: tuple[
        tuple[PrefixKV, ...], ...
    ]  # [prefixes] consecutive pieces of each; () is the empty prefix
    runs: tuple[TokenRun, ...]  # [runs], each at least one token
    run_prefix: NDArray[np.int64]  # [runs] index into prefixes, non-decreasing


class DeviceLost(Exception):  # noqa: N818  # no error of a request: it ends the engine
    """The device answers nothing any more, whatever it is asked."""


FloatT = TypeVar("FloatT", bound=np.floating)


@dataclass(frozen=True, slots=True)
class Launched(Generic[FloatT]):
    """A pass that was begun."""

    results: Callable[[], NDArray[FloatT]]  # waits; as `score` or `encode`, errors too
    done: bool  # nothing is left to wait for; of one backend always or never


class TokenTable(Protocol):
    """Embedding tokens in the memory of a device, that runs may name by row."""

    @property
    def rows(self) -> int:
        """How many there is room for."""

    def write(self, row: int, tokens: NDArray[np.floating]) -> None:
        """Puts rows [count, hidden] at `row` and after, behind the passes begun by now. The backend's thread only."""


class ScoringBackend(Protocol):
    """Runs the prefix and score graphs of a ranker bundle."""

    @property
    def table(self) -> TokenTable | None:
        """What runs may name resident tokens of; None: they bring theirs."""

    def prefill(self, batch: RaggedBatch) -> tuple[PrefixKV, ...]:
        """KV of each run's own tokens (not of the prefix it continues). One run per prefix. [runs]"""

    def score(self, batch: RaggedBatch) -> NDArray[np.float32]:
        """Label logits after each run's last token. [runs, labels]"""

    def launch(self, batch: RaggedBatch) -> Launched[np.float32]:
        """Begins `score`. Several may be under way; they end in order."""

    def split(self, kv: PrefixKV, length: int) -> tuple[PrefixKV, PrefixKV]:
        """Two handles for the first `length` tokens and the rest; 0 < length < kv.length. `kv` is not used again."""

    def close(self) -> None:
        """Frees the device."""


class EncodingBackend(Protocol):
    """Runs the encode graph of an item encoder bundle."""

    def encode(self, runs: Sequence[NDArray[np.int64]]) -> NDArray[np.floating]:
        """Embedding tokens of each run of token ids. [runs, k, hidden], in the bundle's output dtype"""

    def launch(self, runs: Sequence[NDArray[np.int64]]) -> Launched[np.floating]:
        """Begins `encode`. Several may be under way; they end in order."""

    def close(self) -> None:
        """Frees the device."""
