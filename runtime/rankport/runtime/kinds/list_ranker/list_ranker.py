"""`ListRanker`: scores the items of a list together, in this process.

Owns the way from texts, ids, embedding tokens and keys to an answer with scores and statuses. Blocks come from
`prompt.lists.list_prompt`, rows at markers from `text_engine`, and `joining` makes logits of them.
"""

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Self, get_args

import numpy as np

from rankport.protos.arguments import check_choice, checked_timeout_s
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.ranking import Ranks
from rankport.protos.types import Item, ModelDescription, OnMissing, Prefix, ScoreResult, Truncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.description import describe
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Capability, ModelCounts
from rankport.runtime.kinds.list_ranker.joining import BlockRows, item_logits
from rankport.runtime.kinds.list_ranker.rules import ROLE, RULES
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.score_answer import ScoredItems, ScoreForm
from rankport.runtime.kinds.text_engine import TextRows
from rankport.runtime.kinds.text_engines import TextModel, TextsEngine, text_engines, usage_of
from rankport.runtime.prompt.lists.list_prompt import EncodedLists, ListPrompt
from rankport.runtime.scheduling.futures import converted, resolved, result_within
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.hot_tokens import HotTokens
from rankport.runtime.store.keyed_items import KeyedItems, paired_tokens
from rankport.runtime.store.opening import given_or_opened

_ON_MISSING = get_args(OnMissing)


class ListRanker(TextModel, Ranks):
    """A loaded bundle of a list ranker. Any thread may call it; a context manager."""

    def __init__(
        self,
        manifest: Manifest,
        prompt: ListPrompt,
        engines: Replicas[TextsEngine],
        keyed_items: KeyedItems,
        *,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Makes a ranker of parts; it closes the engines, then calls `on_close`."""
        super().__init__(manifest, engines, on_close)
        assert manifest.lists is not None
        self._lists = manifest.lists
        self._form = ScoreForm.of(manifest)
        self._prompt, self._keyed_items = prompt, keyed_items

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        store: TokenStore | str | os.PathLike[str] | None = None,
        config: EngineConfig = DEFAULTS,
    ) -> Self:
        """Loads a list ranker's bundle. With a `store` items may be keys of embedding tokens; one given open stays so.

        Raises:
            BundleError: the bundle is not what it says.
            InvalidRequest: it is no list ranker, has no graph for the device, or takes no embedding tokens, and a
                store is given.
            PairingError: the store has no tokens of the encoder that it was trained with.
            StoreError: the store cannot be read.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, RULES)
        manifest = opened.manifest
        check_manifest(manifest, RULES)  # of a bundle that was opened as one of any kind
        if store is not None and manifest.embedding is None:
            raise InvalidRequest(
                f"store: list ranker {manifest.name!r} takes texts alone, no embedding tokens: leave the store out"
            )
        with ExitStack() as owned:
            store = given_or_opened(store, owned)
            tokens = None if store is None else paired_tokens(store, manifest)
            prompt = ListPrompt.from_bundle(opened)
            keyed_items = KeyedItems(manifest, tokens, host_bytes=config.host_tokens_bytes)
            engines = text_engines(opened, ROLE, config, row_of="marker")
            return cls(manifest, prompt, engines, keyed_items, on_close=owned.pop_all().close)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities: it scores lists, no item apart from the others; with a store it `looks_up`."""
        scores: frozenset[Capability] = frozenset({"scores"})
        return scores | {"looks_up"} if self._keyed_items.readable else scores

    def score(
        self,
        prefix: Prefix,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
    ) -> ScoreResult:
        """Scores the items together, in the order given: another order, or other items beside one, give other scores.

        More items than a block holds are scored block by block, joined as the bundle says; of one that reads items
        alone, those that its prompt does not hold are compared with it all the same. An empty item has failed, and is
        in no block; one that a store lacks neither. Names of markers are left out of texts.

        Raises:
            InvalidRequest: prefix, an item or an option is malformed, or ids hold a marker; the message has the index.
            LimitExceeded: a text, or the prompt of the first items where they are read alone, is too long and
                `truncation` is "error"; an item does not fit a block; or there are more items than a block holds, and
                the model joins none.
            NotFound: the store lacks a key and `on_missing` is "fail".
            Overloaded: the queue is full.
            DeadlineExceeded: `timeout_s` seconds passed.
            BackendError: a pass over this request's tokens failed.
            Unavailable: the model is closed.
        """
        timeout_s = checked_timeout_s(timeout_s)
        future = self.submit(prefix, items, timeout_s, truncation=truncation, on_missing=on_missing)
        return result_within(future, timeout_s)

    def submit(
        self,
        prefix: Prefix,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
    ) -> "Future[ScoreResult]":
        """Scores as `score`, at once with a future. Cancelling it drops what is not computed yet.

        Tokenizes and reads the store before it returns. Raises what is known by then: `InvalidRequest`,
        `LimitExceeded`, `NotFound`, `Overloaded`, `Unavailable`; the future raises the rest.
        """
        timeout_s = checked_timeout_s(timeout_s)
        check_choice("on_missing", on_missing, _ON_MISSING)
        begun_s = time.perf_counter()
        columns = ItemColumns.of(items)
        keyed = self._keyed_items.resolve(columns.keys, on_missing, columns.count)
        lists = self._prompt.encode(prefix, columns, truncation, keyed, skip_empty=True)
        request = ScoredItems(columns.count, lists.items, lists.prefix_truncated, keyed.missing)
        return self._submitted(lists, request, timeout_s, time.perf_counter() - begun_s)

    def describe(self) -> ModelDescription:
        """Says what the bundle is, and which forms of items it takes."""
        return describe(self._manifest, keys=self._keyed_items.readable)

    @property
    def tokens(self) -> HotTokens | None:
        """Stored tokens that it reads."""
        return self._keyed_items.tokens

    @property
    def alive(self) -> bool:
        """False once it is closed or stopped on a bug, and while its token store cannot be read."""
        return super().alive and self._keyed_items.alive

    def counts(self) -> ModelCounts:
        """Returns a snapshot of its counters."""
        return ModelCounts(self._engines.counts(), store=self._keyed_items.counts())

    def _submitted(
        self, lists: EncodedLists, request: ScoredItems, timeout_s: float | None, tokenize_s: float
    ) -> "Future[ScoreResult]":
        runs = lists.runs
        if not len(runs):
            nothing = np.empty((0, self._lists.width))
            return resolved(self._answer(lists, request, tokenize_s, TextRows(nothing, 0.0, 0.0)))
        in_block = np.diff(lists.blocks) + int(self._lists.marks_query)
        markers = np.ones(len(runs), np.int64) if self._lists.alone else in_block
        future = self._engines.submit(
            lambda engine: engine.submit(runs, timeout_s, spent_s=tokenize_s, markers=markers),
            len(runs.ids),
        )
        return converted(future, partial(self._answer, lists, request, tokenize_s))

    def _answer(
        self, lists: EncodedLists, request: ScoredItems, tokenize_s: float, answer: TextRows
    ) -> ScoreResult:
        usage = usage_of(lists.runs, tokenize_s, answer)
        if not len(lists.runs):
            return self._form.answer(request, self._form.nothing(), np.empty(0, np.bool_), usage)
        with np.errstate(all="ignore"):  # what is not finite has failed, and is told below
            rows = BlockRows.of(answer.rows, lists.blocks, self._lists)
            logits = item_logits(rows, lists.blocks, self._lists)
        failed = np.logical_not(np.isfinite(logits).all(axis=1))
        return self._form.answer(request, logits, failed, usage)
