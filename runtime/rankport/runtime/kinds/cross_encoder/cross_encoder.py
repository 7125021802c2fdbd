"""`CrossEncoder`: scores items against a prefix that is read with each of them, in this process.

Owns the way from texts or ids to an answer with scores and statuses. Runs come from `prompt.pair_prompts`, logits from
`text_engine`. Answers the same requests as a ranker does, at the price of the prefix for every item.
"""

import os
import time
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import Self

import numpy as np

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.classes import ClassifyResult, ClassText, ClassTexts
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.ranking import Ranks
from rankport.protos.types import (
    Item,
    OnMissing,
    Prefix,
    ScoreResult,
    Truncation,
)
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.kinds.class_answer import ClassForm
from rankport.runtime.kinds.class_pairs import encode_class_pairs
from rankport.runtime.kinds.cross_encoder.rules import RULES
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.score_answer import ScoredItems, ScoreForm
from rankport.runtime.kinds.text_engine import TextRows
from rankport.runtime.kinds.text_engines import TextModel, TextsEngine, text_engines, usage_of
from rankport.runtime.prompt.encoded import EncodedItems
from rankport.runtime.prompt.pair_prompts import PairReader, pair_reader_of
from rankport.runtime.prompt.pairs import PairEncoder
from rankport.runtime.scheduling.futures import converted, resolved, result_within

_CAPABILITIES: frozenset[Capability] = frozenset({"scores", "scores_apart"})


class CrossEncoder(TextModel, Ranks):
    """A loaded cross-encoder bundle. Any thread may call it; a context manager."""

    def __init__(self, manifest: Manifest, pairs: PairReader, engines: Replicas[TextsEngine]) -> None:
        """Makes a cross-encoder of parts; it closes the engines."""
        super().__init__(manifest, engines)
        self._form = ScoreForm.of(manifest)
        self._classes = ClassForm.of_pairs(manifest)
        self._pairs = pairs

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities: a head of two or more labels also `classifies`."""
        return _CAPABILITIES if self._classes is None else _CAPABILITIES | {"classifies"}

    @classmethod
    def load(cls, bundle: str | os.PathLike[str] | Bundle, *, config: EngineConfig = DEFAULTS) -> Self:
        """Loads a cross-encoder bundle.

        Raises:
            BundleError: the bundle is not what it says.
            InvalidRequest: it is no cross-encoder, or has no graph for the device.
            BackendError: there is no such device, or what drives it is not installed.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, RULES)
        check_manifest(opened.manifest, RULES)  # of a bundle that was opened as one of any kind
        return cls(opened.manifest, pair_reader_of(opened), text_engines(opened, "score", config))

    def score(
        self,
        prefix: Prefix,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
    ) -> ScoreResult:
        """Scores every item, a text or token ids, against the prefix; no items give an empty result.

        An empty item, one without a token of its own or of blanks alone, has failed; the others are scored.
        `on_missing` speaks of keys of a token store, which a cross-encoder does not take.

        Raises:
            InvalidRequest: prefix or an item is malformed; the message has the item's index.
            LimitExceeded: a pair is too long and `truncation` is "error".
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

        Tokenizes before it returns. Raises what is known by then: `InvalidRequest`, `LimitExceeded`, `Overloaded`,
        `Unavailable`; the future raises the rest.
        """
        timeout_s = checked_timeout_s(timeout_s)
        begun_s = time.perf_counter()
        columns = ItemColumns.of(items)
        pairs = self._pairs.encode(prefix, columns, truncation, skip_empty=True)
        request = ScoredItems(columns.count, pairs, part="pair")
        return self._submitted(request, timeout_s, time.perf_counter() - begun_s)

    def submit_classify(
        self,
        texts: Iterable[ClassText] | ClassTexts,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> "Future[ClassifyResult]":
        """Tells the labels of pairs as `Classifier.classify`, by the head that scores them; as `submit`."""
        if self._classes is None or not isinstance(self._pairs, PairEncoder):
            raise InvalidRequest(f"bundle {self._manifest.name!r} has no head of classes: score with it")
        timeout_s = checked_timeout_s(timeout_s)
        begun_s = time.perf_counter()
        columns = ClassTexts.of(texts)
        whose = f"cross-encoder {self._manifest.name!r}"
        encoded = EncodedItems.in_order([])
        if len(columns):
            encoded = encode_class_pairs(whose, self._pairs, columns, prefix, truncation)
        request = ScoredItems(len(columns), encoded, part="pair")
        scored = self._submitted(request, timeout_s, time.perf_counter() - begun_s)
        return converted(scored, self._classes.of_result)

    def _submitted(
        self, request: ScoredItems, timeout_s: float | None, tokenize_s: float
    ) -> "Future[ScoreResult]":
        runs = request.items.runs
        if not len(runs):
            return resolved(self._answer(request, tokenize_s, TextRows(self._form.nothing(), 0.0, 0.0)))
        future = self._engines.submit(
            lambda engine: engine.submit(runs, timeout_s, spent_s=tokenize_s), len(runs.ids)
        )
        return converted(future, partial(self._answer, request, tokenize_s))

    def _answer(self, request: ScoredItems, tokenize_s: float, answer: TextRows) -> ScoreResult:
        logits = answer.rows.astype(np.float32, copy=False)
        usage = usage_of(request.items.runs, tokenize_s, answer)
        failed = np.logical_not(np.isfinite(logits).all(axis=1))
        return self._form.answer(request, logits, failed, usage)
