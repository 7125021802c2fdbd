"""Calls of both clients to models that rank sets."""

from collections.abc import Mapping

from numpy.typing import ArrayLike

from rankport.protos.messages import set_wire
from rankport.protos.priorities import Priority
from rankport.protos.sets import SetColumns, SetFeatures, SetQuery, SetRanking
from rankport.sdk.calls import Calls, CallsInLoops


class RanksSets(Calls):
    """Call of the client that blocks."""

    def rank_set(
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
        priority: Priority | None = None,
    ) -> SetRanking:
        """Ranks candidates behind a history. Arguments, result and errors are those of
        `SetRanker.rank`, `priority` is as in `Client.score`.
        """
        query = SetQuery.of(history, candidates, head_weights, top_k, times=times, now=now, sessions=sessions)
        request = set_wire.rank_request(self._model, query)
        return set_wire.set_ranking(
            self._answer(lambda to: to.set_ranking.Rank, request, self._timeout(timeout_s), priority)
        )


class RanksSetsInLoops(CallsInLoops):
    """Call of the asyncio client."""

    async def rank_set(
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
        priority: Priority | None = None,
    ) -> SetRanking:
        """Ranks as `Client.rank_set`."""
        query = SetQuery.of(history, candidates, head_weights, top_k, times=times, now=now, sessions=sessions)
        request = set_wire.rank_request(self._model, query)
        return set_wire.set_ranking(
            await self._answer(lambda to: to.set_ranking.Rank, request, self._timeout(timeout_s), priority)
        )
