"""Calls of both clients to models that rank sets."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeVar

import grpc
import grpc.aio
from numpy.typing import ArrayLike

from rankport.protos.messages import set_wire
from rankport.protos.sets import SetColumns, SetFeatures, SetQuery, SetRanking
from rankport.sdk.connections import AsyncConnection, Connection

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class RanksSets(ABC):
    """Call of the client that blocks."""

    _model: str

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
    ) -> SetRanking:
        """Ranks candidates behind a history. Arguments, result and errors are those of `SetRanker.rank`."""
        query = SetQuery.of(history, candidates, head_weights, top_k, times=times, now=now, sessions=sessions)
        request = set_wire.rank_request(self._model, query)
        return set_wire.set_ranking(
            self._answer(lambda to: to.set_ranking.Rank, request, self._timeout(timeout_s))
        )

    @abstractmethod
    def _answer(
        self,
        method: "Callable[[Connection], grpc.UnaryUnaryMultiCallable[RequestT, AnswerT]]",
        request: RequestT,
        timeout_s: float | None,
    ) -> AnswerT:
        """Calls a method."""

    @abstractmethod
    def _timeout(self, timeout_s: float | None) -> float | None:
        """Gives a call's timeout, or the client's."""


class RanksSetsInLoops(ABC):
    """Call of the asyncio client."""

    _model: str

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
    ) -> SetRanking:
        """Ranks as `Client.rank_set`."""
        query = SetQuery.of(history, candidates, head_weights, top_k, times=times, now=now, sessions=sessions)
        request = set_wire.rank_request(self._model, query)
        return set_wire.set_ranking(
            await self._answer(lambda to: to.set_ranking.Rank, request, self._timeout(timeout_s))
        )

    @abstractmethod
    async def _answer(
        self,
        method: "Callable[[AsyncConnection], grpc.aio.UnaryUnaryMultiCallable[RequestT, AnswerT]]",
        request: RequestT,
        timeout_s: float | None,
    ) -> AnswerT:
        """Calls a method."""

    @abstractmethod
    def _timeout(self, timeout_s: float | None) -> float | None:
        """Gives a call's timeout, or the client's."""
