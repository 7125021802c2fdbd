"""Capabilities: the words for what a loaded model can do, and what it is to whoever drives it, a protocol each.

Who serves binds its methods to a capability, never to a kind.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rankport.protos.classes import ClassifyResult, ClassText, ClassTexts
from rankport.protos.columns import ItemColumns
from rankport.protos.features import FeatureColumns
from rankport.protos.generation import GeneratedPart, GenerateResult, Sampling, SearchResult
from rankport.protos.priorities import Priority
from rankport.protos.sets import SetQuery, SetRanking
from rankport.protos.sparse import SparseRows
from rankport.protos.tagging import TagResult, TagTexts, TagTruncation
from rankport.protos.types import (
    Features,
    Item,
    ModelDescription,
    OnMissing,
    Prefix,
    Query,
    ScoreResult,
    Side,
    Truncation,
)
from rankport.runtime.scheduling.counts import CacheStats, EngineCounts
from rankport.runtime.store.hot_tokens import HotTokens, StoreCounts

Capability = Literal[
    "scores",
    "weighs",
    "encodes",
    "encodes_sparse",
    "tags",
    "classifies",
    "looks_up",
    "scores_apart",
    "generates",
    "ranks_sets",
]
"""Requests that a model answers: `scores` as `ScoringModel`, with wide features `weighs` as `WeighingModel`, `encodes`
as `EncodingModel`, `encodes_sparse` as `SparseEncodingModel`, `tags` as `TaggingModel`, `classifies` as
`ClassifyingModel`, `looks_up` tokens of keys as `StoringModel`, `generates` as `GeneratingModel`, `ranks_sets` as
`SetRankingModel`. One that `scores_apart` scores each item as if it were alone."""


@dataclass(frozen=True, slots=True)
class IdCounts:
    """Counters of ids that a table of a ranker of sets was asked for."""

    found: int = 0  # that had a row
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """Counters of a loaded model: since its start, and what it has now."""

    # By what they run on, "cpu" or "cuda:0", and their role where it has several.
    engines: Mapping[str, EngineCounts]
    cache: CacheStats | None = None  # of prefixes
    store: StoreCounts | None = None
    ids: Mapping[str, IdCounts] = field(default_factory=dict)  # by table


class Model(Protocol):
    """A loaded model. Any thread may call it."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities: what it answers."""

    @property
    def alive(self) -> bool:
        """False once it is closed, its device lost, or stopped on a bug, and while its token store cannot be read."""

    def counts(self) -> ModelCounts:
        """Returns a snapshot of its counters, without waiting for anything."""

    def check_room(self, timeout_s: float | None, priority: Priority) -> None:
        """Raises `Overloaded` where it would refuse any request like those of late, whatever that asks.

        Says nothing where it does not know. Computes nothing, and waits for nothing.
        """

    def describe(self) -> ModelDescription:
        """Says what it is."""

    def close(self, grace_s: float = 0.0) -> None:
        """Lets accepted requests finish for `grace_s` seconds, fails the rest, frees everything."""


@runtime_checkable
class HoldsModel(Protocol):
    """A model as it was loaded by what it does, not by its kind: a `Scorer`, a `Classifier`."""

    @property
    def model(self) -> Model:
        """The model of its kind."""


class ScoringModel(Model, Protocol):
    """Model that `scores`."""

    def submit(
        self,
        prefix: Prefix,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
    ) -> "Future[ScoreResult]":
        """Scores items against a prefix; see `Ranker.submit`."""


class WeighingModel(ScoringModel, Protocol):
    """Model that `weighs`: it scores with wide features."""

    def submit(
        self,
        prefix: Query,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
    ) -> "Future[ScoreResult]":
        """Scores items against a prefix, with the wide features of each; see `Towers.submit`."""


class EncodingModel(Model, Protocol):
    """Model that `encodes`."""

    def submit_texts(
        self,
        texts: Iterable[str | Sequence[int]] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> "Future[NDArray[np.floating]]":
        """Encodes texts as embedding tokens, of a model of two towers as items unless it is the query's `side`."""


class SparseEncodingModel(Model, Protocol):
    """Model that `encodes_sparse`."""

    def submit_sparse(
        self,
        texts: Iterable[str | Sequence[int]] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> "Future[SparseRows]":
        """Encodes texts as weights of the vocabulary, as items unless it is the query's `side`."""


@runtime_checkable
class CountingModel(Protocol):
    """Model that `encodes` and tells what it reads."""

    def count_tokens(
        self, texts: Iterable[str | Sequence[int]] | ItemColumns, *, truncation: Truncation = "error"
    ) -> int:
        """Counts the tokens that it reads of texts. Tokenizes them; raises as `submit_texts`."""


class ClassifyingModel(Model, Protocol):
    """Model that `classifies`."""

    def submit_classify(
        self,
        texts: Iterable[ClassText] | ClassTexts,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> "Future[ClassifyResult]":
        """Tells the labels of texts, of pairs, or of texts that share a first one; see `Classifier.classify`."""


class StoringModel(Model, Protocol):
    """Model that `looks_up` the tokens of items by key."""

    @property
    def tokens(self) -> HotTokens | None:
        """Tokens that it reads."""


class OfflineEncoder(EncodingModel, Protocol):
    """Model that `encodes`, as a job drives it: loaded for nothing else."""

    @property
    def fingerprint(self) -> str:
        """Namespace of its tokens in a store."""

    def encode(
        self,
        texts: Iterable[str | Sequence[int]] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> NDArray[np.floating]:
        """Computes the tokens of the texts. [texts, k, hidden]"""

    def __enter__(self) -> Self:
        """Gives the model."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""


class SetRankingModel(Model, Protocol):
    """Model that `ranks_sets`."""

    def submit_rank(self, query: SetQuery, timeout_s: float | None = None) -> "Future[SetRanking]":
        """Ranks the candidates of a request together; see `SetRanker.submit_rank`."""

    def small_query(self) -> SetQuery:
        """Makes a request that the model takes, for whoever only wants one answered."""


class TaggingModel(Model, Protocol):
    """Model that `tags`."""

    def submit(
        self,
        texts: Iterable[str | Sequence[str]] | TagTexts,
        timeout_s: float | None = None,
        *,
        truncation: TagTruncation = "error",
        stride: int | None = None,
    ) -> "Future[TagResult]":
        """Finds the spans of texts; see `Tagger.submit`."""


class GeneratingModel(Model, Protocol):
    """Model that `generates`."""

    @property
    def finds_beams(self) -> bool:
        """True where texts that are not drawn may be found beside each other, by beams."""

    def submit_generate(
        self,
        prompt: Prefix,
        sampling: Sampling = ...,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_part: Callable[[GeneratedPart], None] | None = None,
    ) -> "Future[GenerateResult]":
        """Writes a text behind a prompt; see `Generator.submit_generate`."""

    def submit_search(
        self,
        prompt: Prefix,
        trie: str,
        timeout_s: float | None = None,
        *,
        beams: int = ...,
        top_k: int = ...,
        truncation: Truncation = "error",
    ) -> "Future[SearchResult]":
        """Finds the likeliest items of a trie, by its name; see `Generator.submit_search`."""
