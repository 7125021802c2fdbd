"""`Ranker`: scores items against a prefix, in this process.

Owns the way from texts, ids, embedding tokens and keys to an answer with scores and statuses. Token runs come from
`prompt.encoder`, keys from `keyed_items`, logits from `engine`.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from typing import Self, get_args
from zlib import crc32

import numpy as np

from rankport.protos.arguments import check_choice, checked_timeout_s
from rankport.protos.classes import ClassifyResult, ClassText, ClassTexts
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.ranking import Ranks
from rankport.protos.types import (
    Item,
    ModelDescription,
    OnMissing,
    Prefix,
    ScoreResult,
    Truncation,
    Usage,
)
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.description import describe
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Capability, ModelCounts
from rankport.runtime.kinds.class_answer import ClassForm
from rankport.runtime.kinds.engine_model import EngineModel
from rankport.runtime.kinds.ranker.engine import Scored
from rankport.runtime.kinds.ranker.on_devices import ScoringEngine, ranker_engines
from rankport.runtime.kinds.ranker.read_position import up_to_read_token
from rankport.runtime.kinds.ranker.request import Asked, Encoded
from rankport.runtime.kinds.ranker.rules import RULES
from rankport.runtime.kinds.remote.messages import AbsentKeysError
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.score_answer import ScoredItems, ScoreForm
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.scheduling.chained import retried
from rankport.runtime.scheduling.counts import CacheStats
from rankport.runtime.scheduling.futures import converted, resolved, result_within
from rankport.runtime.scheduling.passes.prefixes import prefix_key
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.hot_tokens import HotTokens
from rankport.runtime.store.keyed_items import KeyedItems, paired_tokens
from rankport.runtime.store.opening import given_or_opened
from rankport.runtime.tokens import TokenRun

_ON_MISSING = get_args(OnMissing)
_CAPABILITIES: frozenset[Capability] = frozenset({"scores", "scores_apart"})


class Ranker(EngineModel, Ranks):
    """A loaded ranker bundle. Any thread may call it; a context manager."""

    def __init__(
        self,
        manifest: Manifest,
        prompt: PromptEncoder,
        engines: Replicas[ScoringEngine],
        keyed_items: KeyedItems,
        *,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Makes a ranker of parts; it closes the engines, then calls `on_close`."""
        super().__init__(engines, on_close)
        self._manifest = manifest
        self._form = ScoreForm.of(manifest)
        self._classes = ClassForm.of_scores(manifest)
        self._prompt = prompt
        self._engines = engines
        self._keyed_items = keyed_items
        classifies: frozenset[Capability] = (
            frozenset() if self._classes is None else frozenset({"classifies"})
        )
        looks_up: frozenset[Capability] = frozenset({"looks_up"}) if keyed_items.readable else frozenset()
        self._capabilities = _CAPABILITIES | classifies | looks_up
        self._turn = threading.Lock()

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | Bundle,
        *,
        store: TokenStore | str | os.PathLike[str] | None = None,
        config: EngineConfig = DEFAULTS,
    ) -> Self:
        """Loads a ranker bundle. With a `store` items may be keys of embedding tokens; a store given open stays open.

        Raises:
            BundleError: the bundle is not what it says.
            InvalidRequest: it is no ranker, or takes no embedding tokens, and a store is given.
            PairingError: the store has no tokens of the encoder that the ranker was trained with.
            StoreError: the store cannot be read.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, RULES)
        manifest = opened.manifest
        check_manifest(manifest, RULES)  # of a bundle that was opened as one of any kind
        if store is not None and manifest.embedding is None:
            raise InvalidRequest(
                f"store: ranker {manifest.name!r} takes texts alone, no embedding tokens: leave the store out"
            )
        with ExitStack() as owned:
            store = given_or_opened(store, owned)
            tokens = None if store is None else paired_tokens(store, manifest)
            prompt = PromptEncoder.from_bundle(opened)
            loaded = ranker_engines(opened, config, tokens)
            owned.callback(loaded.close)
            keyed_items = KeyedItems(manifest, tokens, loaded.resident, config.host_tokens_bytes)
            return cls(manifest, prompt, loaded.engines, keyed_items, on_close=owned.pop_all().close)

    def score(
        self,
        prefix: Prefix,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
    ) -> ScoreResult:
        """Scores every item against the prefix; no items give an empty result.

        An empty item, one without a token of its own or of blanks alone, has failed; the others are scored.

        Raises:
            InvalidRequest: prefix, an item or an option is malformed; the message has the item's index.
            LimitExceeded: a text is too long and `truncation` is "error".
            NotFound: the store lacks a key and `on_missing` is "fail".
            Overloaded: the queue is full.
            DeadlineExceeded: `timeout_s` seconds passed.
            BackendError: a pass over this request's tokens failed.
            Unavailable: the ranker is closed.
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
        return self._submit(Asked(prefix, items, truncation, on_missing, timeout_s, time.perf_counter()))

    def _submit(self, asked: Asked) -> "Future[ScoreResult]":
        """Submits what is asked, again where keys are named that another process's device has no tokens of."""
        request = self._encode(asked, skip_empty=True)
        tokenize_s = time.perf_counter() - asked.begun_s
        encoded = request.scored.items
        if not len(encoded.runs):
            return resolved(self._answer(request.scored, 0, tokenize_s, self._nothing_scored()))
        run = request.prefix.run
        runs = up_to_read_token(encoded.runs, self._form.labels.pad_token, encoded.places)
        future = self._engines.submit(
            lambda engine: engine.submit(run, runs, asked.timeout_s, spent_s=tokenize_s),
            len(run.ids) + len(runs.ids),
            lambda: crc32(prefix_key(run).tobytes()),
        )
        answer = converted(future, partial(self._answer, request.scored, request.on_device, tokenize_s))
        if (keys := request.named) is None:
            return answer

        def again(error: AbsentKeysError) -> "Future[ScoreResult]":
            absent = {keys[index] for index in error.keys.tolist()}
            self._keyed_items.told_absent(absent)
            return self._submit(replace(request.asked, absent=absent | asked.absent))

        return retried(answer, AbsentKeysError, again, self._keyed_items.executor)

    def submit_classify(
        self,
        texts: Iterable[ClassText] | ClassTexts,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> "Future[ClassifyResult]":
        """Tells the labels of texts behind a prefix that all share, by the head that scores them; as `submit`."""
        if self._classes is None:
            raise InvalidRequest(f"bundle {self._manifest.name!r} has no head of classes: score with it")
        columns = ClassTexts.of(texts)
        if columns.firsts is not None:
            raise InvalidRequest(
                f"texts[0] is a pair, and ranker {self._manifest.name!r} shares one prefix among all texts: give the "
                "first text as prefix, in a call for each"
            )
        if prefix is None:
            prefix = "" if len(self._prompt.fields) == 1 else {}
        scored = self.submit(prefix, columns.texts, timeout_s, truncation=truncation)
        return converted(scored, self._classes.of_result)

    def encode(
        self, prefix: Prefix, items: Iterable[Item] | ItemColumns, *, truncation: Truncation = "error"
    ) -> tuple[TokenRun, list[TokenRun]]:
        """Gives the tokens of the prefix and of each item, whole: a pass has them up to the one that is read.

        Raises as `submit` does, and InvalidRequest for an empty item; keys must exist.
        """
        request = self._encode(Asked(prefix, items, truncation, "fail"), resident=False)
        return request.prefix.run, list(request.scored.items.runs)

    def describe(self) -> ModelDescription:
        """Says what the bundle is, and which forms of items it takes."""
        return describe(self._manifest, keys=self._keyed_items.readable)

    def cache_stats(self) -> CacheStats:
        """Returns a snapshot of the prefix cache's counters."""
        return CacheStats.total([engine.cache_stats() for engine in self._engines.engines])

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities: a head of classes also `classifies`, one with a store `looks_up`."""
        return self._capabilities

    @property
    def tokens(self) -> HotTokens | None:
        """Stored tokens that it reads."""
        return self._keyed_items.tokens

    @property
    def alive(self) -> bool:
        """False once it is closed, its device lost, or stopped on a bug, and while its token store cannot be read."""
        return super().alive and self._keyed_items.alive

    def counts(self) -> ModelCounts:
        """Returns a snapshot of its counters."""
        return ModelCounts(self._engines.counts(), self.cache_stats(), self._keyed_items.counts())

    def _encode(self, asked: Asked, *, skip_empty: bool = False, resident: bool = True) -> Encoded:
        check_choice("on_missing", asked.on_missing, _ON_MISSING)
        columns = ItemColumns.of(asked.items)
        self._engines.check_process()  # before a lock is taken that a thread may have held at a fork
        # Texts are tokenized without the interpreter's lock; all else holds it, and threads that take turns at it
        # within a request pay for each turn: one request after the other is twice as fast.
        with self._turn if columns.texts is None else nullcontext():
            prefix = self._prompt.encode_prefix(asked.prefix, asked.truncation)
            with self._keyed_items.resolved(
                columns, asked.on_missing, resident=resident, absent=asked.absent
            ) as keyed:
                encoded = self._prompt.encode_items(
                    columns, asked.truncation, keyed, behind=prefix, skip_empty=skip_empty
                )
        scored = ScoredItems(columns.count, encoded, prefix.truncated, keyed.missing)
        return Encoded(replace(asked, items=columns), prefix, scored, keyed)

    def _nothing_scored(self) -> Scored:
        return Scored(self._form.nothing(), np.empty(0, np.bool_), 0, 0, queue_s=0.0, compute_s=0.0)

    def _answer(self, items: ScoredItems, on_device: int, tokenize_s: float, scored: Scored) -> ScoreResult:
        self._keyed_items.count_on_device(on_device)
        usage = Usage(
            prefix_tokens_cached=scored.prefix_tokens_cached,
            prefix_tokens_computed=scored.prefix_tokens_computed,
            item_tokens=len(items.items.runs.ids),
            tokenize_s=tokenize_s,
            queue_s=scored.queue_s,
            compute_s=scored.compute_s,
        )
        return self._form.answer(items, scored.logits, scored.failed, usage)
