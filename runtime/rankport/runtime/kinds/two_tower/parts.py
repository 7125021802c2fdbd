"""`TowerParts`: a reader a side, what scores their rows, and the way of a request through both."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from rankport.protos.errors import Overloaded
from rankport.protos.priorities import Priority
from rankport.protos.types import ScoreResult, Side
from rankport.runtime.kinds.score_answer import ScoreForm
from rankport.runtime.kinds.two_tower.reader import Reader
from rankport.runtime.kinds.two_tower.request import Computed, TowersRequest
from rankport.runtime.kinds.two_tower.scorers import RowScorer
from rankport.runtime.prompt.encoded import EncodedPrefix
from rankport.runtime.scheduling.counts import EngineCounts
from rankport.runtime.tokens import TokenRuns


@dataclass(frozen=True, slots=True)
class TowerParts:
    """Parts that two towers are made of. Whoever takes them calls `close`."""

    query: Reader
    item: Reader
    scorer: RowScorer
    form: ScoreForm
    same_reading: bool  # a text has one representation, of whichever side
    close: Callable[[float], None]
    sparse: bool = False  # representations are weights of a vocabulary, most of them 0

    def counts(self) -> dict[str, EngineCounts]:
        """Returns the counters of the engines, by what they run on, and by side where each has its own."""
        query, item = self.query.engines, self.item.engines
        if query is item:
            return item.counts()
        sides = {"query": query.counts(), "item": item.counts()}
        return {f"{on} {side}": counts for side, engines in sides.items() for on, counts in engines.items()}

    @property
    def alive(self) -> bool:
        """False once the engines of a side have stopped."""
        return self.query.engines.alive and self.item.engines.alive

    def check_room(self, timeout_s: float | None, priority: Priority) -> None:
        """Raises `Overloaded` where the engines of both sides would refuse any request like those of late."""
        try:
            self.query.engines.check_room(timeout_s, priority)
        except Overloaded:
            self.item.engines.check_room(timeout_s, priority)

    def reader(self, side: Side) -> Reader:
        """Gives the reader of a side."""
        return self.query if side == "query" else self.item

    @property
    def together(self) -> bool:
        """Says whether the same engines read both sides, a query and its items as one."""
        return self.query.engines is self.item.engines

    def queue(
        self, request: TowersRequest, timeout_s: float | None, spent_s: float
    ) -> tuple["Future[Computed]", ...]:
        """Queues what is to be computed: nothing where query and items are given, or no item is scored."""
        if not len(request.places):
            return ()
        runs = [request.texts.runs] if len(request.texts.places) else []
        if not isinstance(request.query, EncodedPrefix):
            return tuple(self._submit(self.item, run, timeout_s, spent_s) for run in runs)
        asked = TokenRuns.of([request.query.run])
        if self.together:
            return (self._submit(self.query, TokenRuns.join([asked, *runs]), timeout_s, spent_s),)
        first = self._submit(self.query, asked, timeout_s, spent_s)
        try:
            return (first, *(self._submit(self.item, run, timeout_s, spent_s) for run in runs))
        except BaseException:
            first.cancel()
            raise

    def _submit(
        self, reader: Reader, runs: TokenRuns, timeout_s: float | None, spent_s: float
    ) -> "Future[Computed]":
        submit = reader.submit_weights if self.sparse else reader.submit
        return submit(runs, timeout_s, spent_s)  # type: ignore[return-value]  # a future is invariant

    def answer(
        self, request: TowersRequest, tokenize_s: float, computed: tuple[Computed, ...]
    ) -> ScoreResult:
        """Scores a request by the rows that were queued for it, once they are computed."""
        begun_s = time.perf_counter()
        logits = self.form.nothing()
        if len(request.places):
            read = isinstance(request.query, EncodedPrefix)
            query, columns = request.filled(computed, self.together and read)
            wide = request.features
            parts = [
                self.scorer.logits(query, rows, None if wide is None else wide[places])
                for places, rows in request.scored_parts(columns, self.scorer.most_items)
            ]
            logits = np.concatenate(parts)
        failed = np.asarray(~np.isfinite(logits).all(axis=1), np.bool_)
        usage = request.usage(computed, tokenize_s, time.perf_counter() - begun_s)
        return self.form.answer(request.scored, logits, failed, usage)
