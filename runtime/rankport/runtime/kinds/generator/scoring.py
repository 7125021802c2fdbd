"""`TextScores`: items as texts behind a prompt, to an answer with scores and statuses. Logits are the engine's."""

import time
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from zlib import crc32

import numpy as np

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.ranking import Ranks
from rankport.protos.types import Item, OnMissing, Prefix, ScoreResult, Truncation, Usage
from rankport.runtime.bundle.description import LIKELIHOODS
from rankport.runtime.bundle.manifest import Manifest, Score
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.kinds.engine_model import EngineModel
from rankport.runtime.kinds.generator.decoder.likelihoods import Likelihoods
from rankport.runtime.kinds.generator.engines.loading import WritingEngine
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.score_answer import ScoredItems
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.scheduling.futures import converted, resolved, result_within

SCORES: frozenset[Capability] = frozenset({"scores", "scores_apart"})

_WHOLE = Score(kind="log_likelihood", transform="with-end")


class TextScores(EngineModel, Ranks):
    """Scoring by a model that writes: how likely it is to write each item."""

    def __init__(self, manifest: Manifest, prompt: PromptEncoder, engines: Replicas[WritingEngine]) -> None:
        """Takes the engines over."""
        super().__init__(engines)
        self._manifest = manifest
        self._prompt = prompt
        self._engines = engines
        self._score = _WHOLE if manifest.score is None else manifest.score
        assert manifest.generation is not None
        self._ends = manifest.generation.stop_ids if self._score.transform == "with-end" else []

    def score(
        self,
        prefix: Prefix,
        items: Iterable[Item] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
    ) -> ScoreResult:
        """Scores every item, a text or token ids, as the text behind the prefix: the sum of its log-probabilities.

        Of the whole text, its end included, unless the bundle was exported with `scores="beginning"`.
        An empty item has failed; the others are scored. `on_missing` speaks of keys, which a generator does not take.

        Raises:
            InvalidRequest: the prefix is malformed or empty, or an item is malformed; the message has its index.
            LimitExceeded: a text is too long and `truncation` is "error".
            Overloaded, DeadlineExceeded, BackendError, Unavailable: as `generate`.
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
        """Scores as `score`, at once with a future. Cancelling it drops what is not computed yet."""
        timeout_s = checked_timeout_s(timeout_s)
        begun_s = time.perf_counter()
        columns = ItemColumns.of(items)
        self._engines.check_process()
        encoded_prefix = self._prompt.encode_prefix(prefix, truncation)
        run = encoded_prefix.run
        if not len(run.ids):
            raise InvalidRequest("prefix has no tokens: a text begins behind at least one")
        encoded = self._prompt.encode_items(columns, truncation, skip_empty=True)
        request = ScoredItems(columns.count, encoded, encoded_prefix.truncated)
        tokenize_s = time.perf_counter() - begun_s
        if not len(encoded.runs):
            nothing = np.empty(0, np.float32)
            scored = Likelihoods(nothing, nothing > 0, 0, 0, 0.0, 0.0)
            return resolved(self._answer(request, tokenize_s, scored))
        future = self._engines.submit(
            lambda engine: engine.score(run, encoded.runs, self._ends, timeout_s, spent_s=tokenize_s),
            len(run.ids) + len(encoded.runs.ids),
            lambda: crc32(run.ids.tobytes()),
        )
        return converted(future, partial(self._answer, request, tokenize_s))

    def _answer(self, request: ScoredItems, tokenize_s: float, scored: Likelihoods) -> ScoreResult:
        scores = scored.scores
        if len(scores) < request.count:
            scores = np.full(request.count, np.nan, np.float32)
            scores[request.items.places] = scored.scores
        status, messages = request.outcomes(request.items.places[scored.failed])
        usage = Usage(
            prefix_tokens_cached=scored.prompt_tokens_cached,
            prefix_tokens_computed=scored.prompt_tokens_computed,
            item_tokens=len(request.items.runs.ids),
            tokenize_s=tokenize_s,
            queue_s=scored.queue_s,
            compute_s=scored.compute_s,
        )
        return ScoreResult(
            scores=scores,
            logits=scores[:, None],
            status=status,
            messages=messages,
            usage=usage,
            fingerprint=self._manifest.fingerprint,
            score_kind="log_likelihood",
            read_out=LIKELIHOODS[self._score.transform],
        )
