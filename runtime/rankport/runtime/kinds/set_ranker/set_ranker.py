"""`SetRanker`: a history and the candidates of a request to their ranking, in this process."""

import os
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.sets import SetColumns, SetFeatures, SetQuery, SetRanking
from rankport.protos.types import ModelDescription, Usage
from rankport.protos.wording import counted
from rankport.runtime.backends.choice import view_for
from rankport.runtime.backends.layouts.sets import gathers_rows
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.description import describe
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.sections.sets import SetSchema
from rankport.runtime.config import DEFAULTS, EngineConfig, in_one_instance
from rankport.runtime.kinds.capabilities import Capability, ModelCounts
from rankport.runtime.kinds.engine_model import EngineModel
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.set_ranker.combining import Heads, best_first
from rankport.runtime.kinds.set_ranker.engine import SetEngine, SetInput, SetLogits
from rankport.runtime.kinds.set_ranker.gather import Gatherer, bytes_of_rows
from rankport.runtime.kinds.set_ranker.remote import RemoteSetEngine
from rankport.runtime.kinds.set_ranker.rules import RULES
from rankport.runtime.kinds.set_ranker.tables import RowTables
from rankport.runtime.scheduling.counts import CacheStats
from rankport.runtime.scheduling.futures import converted, result_within
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.hot_tokens import HotTokens
from rankport.runtime.store.keyed_items import paired_tokens
from rankport.runtime.store.opening import given_or_opened

AnySetEngine = SetEngine | RemoteSetEngine
"""An engine of a ranker of sets, in this process or another."""


def set_engine(bundle: Bundle, tables: RowTables, config: EngineConfig, gpu: int) -> AnySetEngine:
    """Loads the graphs on one device, in another process where `config` says so. Raises as `SetRanker.load`."""
    manifest = bundle.manifest
    if gathers_rows(view_for(bundle, config.device).manifest):
        because = "its graphs are a GPU's, with one block of rows for all: export it with --target onnx-cpu"
        config = in_one_instance(config, manifest.name, because)
    if config.engines_at:
        return RemoteSetEngine(bundle, config, gpu)
    from rankport.runtime.backends.choice import load_set_backend

    backend = load_set_backend(bundle, tables, config, gpu=gpu)
    return SetEngine(backend, _schema(manifest).mask, Heads.of(manifest), config)


class SetRanker(EngineModel):
    """A loaded ranker of sets. Any thread may call it; a context manager.

    >>> with SetRanker.load("sets.bundle") as ranker:
    ...     ranker.rank({"item": [7, 3]}, {"item": [1, 2, 5]}, top_k=2).order
    """

    def __init__(
        self,
        manifest: Manifest,
        engines: Replicas[AnySetEngine],
        gatherer: Gatherer,
        *,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes the engines over; closes them, then calls `on_close`."""
        super().__init__(engines, on_close)
        self._manifest, self._engines, self._gatherer = manifest, engines, gatherer
        self._heads = Heads.of(manifest)

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        store: TokenStore | str | os.PathLike[str] | None = None,
        config: EngineConfig = DEFAULTS,
    ) -> Self:
        """Loads a bundle. With a `store` content features may be keys of what the paired encoder made.

        Raises BundleError, InvalidRequest for a bundle of another kind, PairingError and StoreError of the store.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, RULES)
        manifest = opened.manifest
        with ExitStack() as owned:
            content = _content(manifest, store, config, owned)
            tables = RowTables.open(opened)
            owned.callback(tables.files.close)
            engines: dict[int, AnySetEngine] = {}
            for gpu in config.device_ids:
                engines[gpu] = set_engine(opened, tables, config, gpu)
                owned.callback(engines[gpu].close)
            in_graph = gathers_rows(view_for(opened, config.device).manifest)
            gatherer = Gatherer(_schema(manifest), tables, content, in_graph)
            return cls(manifest, Replicas(engines), gatherer, on_close=owned.pop_all().close)

    def rank(
        self,
        history: SetFeatures | SetColumns,
        candidates: SetFeatures | SetColumns,
        head_weights: Mapping[str, float] | None = None,
        top_k: int | None = None,
        *,
        times: ArrayLike | None = None,
        now: int | None = None,
        sessions: ArrayLike | None = None,
        timeout_s: float | None = None,
    ) -> SetRanking:
        """Ranks candidates behind a history, both as a column for each feature; `{}` is an empty history.

        Equal scores are in the order of the request. A candidate with a logit that is not finite has NaN scores, and
        is last.

        Args:
            history: events, oldest first.
            candidates: of one request; with a set-wise mask each sees the others of its session.
            head_weights: of the sum that a score is; None: those of the bundle.
            top_k: how many places `order` has; None: all.
            times: of the events, in whole seconds, where the bundle has times; `now`: that of the request.
            sessions: numbers of the candidates' sessions; None: all are of one.

        Raises:
            InvalidRequest: a feature or head that is missing, unknown or of another form; an unknown id, refused.
            LimitExceeded: more events or candidates than the bundle takes.
            NotFound: a key that the store lacks.
            DeadlineExceeded, Overloaded, Unavailable, BackendError: as of any model.
        """
        timeout_s = checked_timeout_s(timeout_s)
        query = SetQuery.of(history, candidates, head_weights, top_k, times=times, now=now, sessions=sessions)
        return result_within(self.submit_rank(query, timeout_s), timeout_s)

    def submit_rank(self, query: SetQuery, timeout_s: float | None = None) -> "Future[SetRanking]":
        """Ranks as `rank`, at once with a future. Cancelling it drops what is not computed yet."""
        weights = self._heads.weights(query.head_weights)
        return converted(self.submit_logits(query, timeout_s), partial(self._answer, query, weights))

    def submit_logits(self, query: SetQuery, timeout_s: float | None = None) -> "Future[SetLogits]":
        """Computes the logits of heads, from which `submit_rank` ranks. Raises as that."""
        begun_s = time.perf_counter()
        given = self._input(query, self._heads.weights(query.head_weights))
        spent_s = time.perf_counter() - begun_s
        rows = len(given.events) + len(given.candidates)
        return self._engines.submit(
            lambda engine: engine.submit(given, timeout_s, spent_s=spent_s),
            rows,
            lambda: zlib.crc32(given.identity[:1].tobytes()),
        )

    def small_query(self) -> SetQuery:
        """Makes a request of one event and one candidate."""
        schema, blank = self.schema, self._gatherer.blank
        timed = {"times": [0], "now": 0} if schema.times else {}
        return SetQuery.of(blank(schema.event), blank(schema.candidate), **timed)  # type: ignore[arg-type]

    @property
    def schema(self) -> SetSchema:
        """Schema of events and candidates."""
        return self._gatherer.schema

    def describe(self) -> ModelDescription:
        """Says what the bundle is."""
        return describe(self._manifest)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities: what it answers."""
        return frozenset({"ranks_sets"})

    @property
    def alive(self) -> bool:
        """False once it is closed, stopped on a bug or its files changed, and while its token store cannot be read."""
        return super().alive and self._gatherer.alive

    def counts(self) -> ModelCounts:
        """Returns a snapshot of its counters."""
        caches = [engine.cache_stats() for engine in self._engines.engines]
        ids = self._gatherer.tables.counts()
        return ModelCounts(self._engines.counts(), cache=CacheStats.total(caches), ids=ids)

    def _input(self, query: SetQuery, weights: NDArray[np.float32]) -> SetInput:
        schema = self._gatherer.schema
        _check_sizes(query, schema)
        times, now = _times(query, schema)
        events = self._gatherer.rows(query.history, "history")
        ranked = self._gatherer.rows(query.candidates, "candidates")
        identity = events.identity
        if schema.times and len(identity):
            identity = np.concatenate([identity, bytes_of_rows([times])], axis=1)
        sessions = query.sessions
        if sessions is None:
            sessions = np.zeros(len(ranked.features), np.int64)
        elif schema.mask.policy == "independent":
            raise InvalidRequest("sessions: the bundle's candidates do not see each other: leave them out")
        return SetInput(events.features, identity, times, ranked.features, now, sessions, weights)

    def _answer(self, query: SetQuery, weights: NDArray[np.float32], answer: SetLogits) -> SetRanking:
        scores = self._heads.combined(answer.logits, weights=weights)
        return SetRanking(
            scores=scores,
            head_scores=self._heads.scores(answer.logits),
            heads=self._heads.names,
            order=best_first(scores, answer.again)[: query.top_k],
            fingerprint=self._manifest.fingerprint,
            usage=Usage(
                prefix_tokens_cached=answer.cached,
                prefix_tokens_computed=query.history.rows - answer.cached,
                item_tokens=len(scores),
                tokenize_s=answer.gather_s,
                queue_s=answer.queue_s,
                compute_s=answer.compute_s,
            ),
        )


def _check_sizes(query: SetQuery, schema: SetSchema) -> None:
    for name, columns, most in (
        ("history", query.history, schema.max_events),
        ("candidates", query.candidates, schema.max_candidates),
    ):
        if columns.rows > most:
            raise LimitExceeded(
                f"{name} has {counted(columns.rows, 'row')}, the bundle takes {most}: send fewer"
            )
    if not query.candidates.rows:
        raise InvalidRequest("candidates is empty: give at least one")


def _times(query: SetQuery, schema: SetSchema) -> tuple[NDArray[np.int64], int]:
    events = query.history.rows
    if not schema.times:
        if query.times is not None or query.now is not None:
            raise InvalidRequest("times and now: the bundle knows no times: leave them out")
        return np.zeros(events, np.int64), 0
    if query.now is None or (query.times is None and events):
        lacking = "now" if query.now is None else "times"
        raise InvalidRequest(f"{lacking}: is missing, and the bundle's events have times: give whole seconds")
    times = np.zeros(0, np.int64) if query.times is None else query.times
    return times, query.now


def _schema(manifest: Manifest) -> SetSchema:
    assert manifest.sets is not None
    return manifest.sets


def _content(
    manifest: Manifest,
    store: TokenStore | str | os.PathLike[str] | None,
    config: EngineConfig,
    owned: ExitStack,
) -> HotTokens | None:
    """Finds the tokens of keys. Raises InvalidRequest for a store that a bundle has no use for, PairingError."""
    if store is None:
        return None
    if manifest.pairing is None:
        raise InvalidRequest(
            f"store: bundle {manifest.name!r} is paired with no encoder: leave the store out, and give vectors"
        )
    opened = given_or_opened(store, owned)
    assert opened is not None, "it is given"
    tokens = paired_tokens(opened, manifest)
    assert tokens is not None, "it is paired"
    return HotTokens(tokens, config.host_tokens_bytes)
