"""`Towers`: texts to representations, and scores of items against a query by their representations, in this process."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.features import FeatureColumns
from rankport.protos.ranking import WeighingRanks
from rankport.protos.sparse import SparseRows
from rankport.protos.types import (
    Features,
    Item,
    ModelDescription,
    OnMissing,
    Query,
    ScoreResult,
    Side,
    Truncation,
)
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.description import describe
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Capability, ModelCounts
from rankport.runtime.kinds.engine_model import EngineModel
from rankport.runtime.kinds.two_tower.loading import StoredRows, load_parts, opened_towers, stored_rows
from rankport.runtime.kinds.two_tower.parts import TowerParts
from rankport.runtime.kinds.two_tower.reader import checked_side
from rankport.runtime.kinds.two_tower.reading import RequestReader
from rankport.runtime.kinds.two_tower.rules import is_late, is_sparse, vectors_of
from rankport.runtime.kinds.two_tower.weights import finite_weights, require_storable, require_weights
from rankport.runtime.scheduling.futures import converted, gathered, resolved, result_within
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.hot_tokens import HotTokens
from rankport.runtime.store.keyed_items import KeyedItems
from rankport.runtime.store.opening import given_or_opened

Text = str | Sequence[int]
_CAPABILITIES: frozenset[Capability] = frozenset({"scores", "scores_apart", "weighs", "encodes"})
_SPARSE: frozenset[Capability] = frozenset({"scores", "scores_apart", "weighs", "encodes_sparse"})


class Towers(EngineModel, WeighingRanks):
    """Two loaded towers and what scores them. Any thread may call it; a context manager.

    >>> with Towers.load("towers.bundle", store="rows.lmdb") as towers:
    ...     towers.score("wing flutter", [Key("17"), "a text"], features={"bm25": [8.1, 2.4]}).scores
    """

    def __init__(
        self,
        manifest: Manifest,
        parts: TowerParts,
        reader: RequestReader,
        *,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Makes towers of parts; closes them, then calls `on_close`."""
        assert manifest.embedding is not None
        super().__init__(parts, on_close)
        self._manifest = manifest
        self._width = manifest.embedding.hidden_size
        self._dtype = np.dtype(manifest.embedding.dtype)
        self._parts = parts
        self._reader = reader

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        store: TokenStore | str | os.PathLike[str] | None = None,
        query: str | os.PathLike[str] | Bundle | None = None,
        config: EngineConfig = DEFAULTS,
    ) -> Self:
        """Loads a bundle of two towers, or an item encoder's, whose score is the cosine.

        With a `store` items may be keys of what `rankport encode` made with this bundle, and queries of what it made
        with `--side query`. `query` is an item encoder's bundle with the prompt of queries, if they have one.

        Raises:
            BundleError: the bundle is not what it says.
            InvalidRequest: it is of another kind, or `query` does not go with it.
            PairingError: the store has no representations of this bundle.
            StoreError: the store cannot be read.
        """
        opened = opened_towers(bundle)
        manifest = opened.manifest
        with ExitStack() as owned:
            if store is not None:
                require_storable(manifest)
            store = given_or_opened(store, owned)
            asking = None if query is None else opened_towers(query)
            parts = load_parts(opened, asking, config)
            owned.callback(parts.close, 0.0)
            rows = StoredRows()
            if store is not None:
                rows = stored_rows(
                    store, manifest, None if asking is None else asking.manifest, parts.same_reading
                )
            keyed_items = KeyedItems(manifest, rows.items, host_bytes=config.host_tokens_bytes)
            reader = RequestReader(manifest, parts, keyed_items, rows.queries)
            return cls(manifest, parts, reader, on_close=owned.pop_all().close)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that changes an output: the namespace of item representations in a store."""
        return self._manifest.fingerprint

    def represent(
        self,
        texts: Iterable[Text] | ItemColumns,
        side: Side | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> NDArray[np.floating]:
        """Computes the representations of texts, or token ids, in the bundle's type.

        [texts, width], of late interaction [texts, vectors, width], with zeros behind a text's own vectors.

        `side` may be left out where both sides read a text alike. Raises as `ItemEncoder.encode`, and InvalidRequest
        where the side is missing.
        """
        if side is None and not self._parts.same_reading:
            raise InvalidRequest(
                "side is missing, and query and item are read differently: give query or item"
            )
        rows = self.encode(texts, timeout_s, truncation=truncation, side=side)
        return rows if is_late(self._manifest) else rows[:, 0]

    def encode(
        self,
        texts: Iterable[Text] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> NDArray[np.floating]:
        """Computes what a store keeps: `represent`, as tokens of a text, items without a side. [texts, k, width]"""
        timeout_s = checked_timeout_s(timeout_s)
        future = self.submit_texts(texts, timeout_s, truncation=truncation, side=side)
        return result_within(future, timeout_s)

    def submit_texts(
        self,
        texts: Iterable[Text] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> "Future[NDArray[np.floating]]":
        """Encodes as `encode`, at once with a future; without a side as items. Cancelling it drops what is left."""
        asked = checked_side(side)
        timeout_s = checked_timeout_s(timeout_s)
        begun_s = time.perf_counter()
        reader = self._parts.reader(asked)
        runs = reader.read_all(ItemColumns.of(texts, "texts"), truncation)
        if not len(runs):
            vectors = vectors_of(self._manifest, asked)
            return resolved(np.empty((0, vectors, self._width), self._dtype))
        return converted(reader.submit(runs, timeout_s, time.perf_counter() - begun_s), attrgetter("rows"))

    def encode_sparse(
        self,
        texts: Iterable[Text] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> SparseRows:
        """Computes the weights of texts, or token ids, that are not 0, of a sparse encoder; items without a side.

        Raises as `ItemEncoder.encode`, and InvalidRequest for a bundle of dense representations.
        """
        timeout_s = checked_timeout_s(timeout_s)
        future = self.submit_sparse(texts, timeout_s, truncation=truncation, side=side)
        return result_within(future, timeout_s)

    def submit_sparse(
        self,
        texts: Iterable[Text] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> "Future[SparseRows]":
        """Encodes as `encode_sparse`, at once with a future. Cancelling it drops what is left."""
        require_weights(self._manifest)
        timeout_s = checked_timeout_s(timeout_s)
        begun_s = time.perf_counter()
        reader = self._parts.reader(checked_side(side))
        runs = reader.read_all(ItemColumns.of(texts, "texts"), truncation)
        if not len(runs):
            return resolved(SparseRows.joined((), self._width))
        queued = reader.submit_weights(runs, timeout_s, time.perf_counter() - begun_s)
        return converted(queued, finite_weights)

    def score(
        self,
        prefix: Query,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
    ) -> ScoreResult:
        """Scores items, as texts, token ids, keys or representations, against a query that is read once.

        A representation is [width], of late interaction [vectors, width], as `represent` gives it.

        `features` are the bundle's wide features of each item: an array [items, features] in the bundle's order, or a
        column by name. Raises as `Ranker.score`, and InvalidRequest for features that are not the bundle's.
        """
        timeout_s = checked_timeout_s(timeout_s)
        future = self.submit(
            prefix, items, timeout_s, truncation=truncation, on_missing=on_missing, features=features
        )
        return result_within(future, timeout_s)

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
        """Scores as `score`, at once with a future. Cancelling it drops what is not computed yet."""
        timeout_s = checked_timeout_s(timeout_s)
        self._parts.item.engines.check_process()  # what is given as rows is scored without an engine
        begun_s = time.perf_counter()
        request = self._reader.read(prefix, items, truncation, on_missing, features)
        tokenize_s = time.perf_counter() - begun_s
        answer = partial(self._parts.answer, request, tokenize_s)
        queued = self._parts.queue(request, timeout_s, tokenize_s)
        return converted(gathered(queued), answer) if queued else resolved(answer(()))

    def describe(self) -> ModelDescription:
        """Says what the bundle is, and which forms of items it takes."""
        keys, form = self._reader.keyed_items.readable, self._parts.form
        described = describe(self._manifest, keys=keys)
        # What an item encoder's manifest does not say.
        texts = tuple(name for name in described.item_forms if name in ("text", "token_ids"))
        return replace(
            described,
            item_forms=(*texts, "embeddings", *(("key",) if keys else ())),
            labels=tuple(form.labels.names),
            score_kind=form.score.kind,
            read_out=form.read_out,
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities: with a store it `looks_up` too."""
        if is_sparse(self._manifest):
            return _SPARSE
        return _CAPABILITIES | {"looks_up"} if self._reader.keyed_items.readable else _CAPABILITIES

    @property
    def tokens(self) -> HotTokens | None:
        """Stored rows of items that it reads."""
        return self._reader.keyed_items.tokens

    @property
    def alive(self) -> bool:
        """False once it is closed, its device lost, or stopped on a bug, and while its token store cannot be read."""
        return super().alive and self._reader.alive

    def counts(self) -> ModelCounts:
        """Returns a snapshot of its counters."""
        return ModelCounts(self._parts.counts(), store=self._reader.keyed_items.counts())
