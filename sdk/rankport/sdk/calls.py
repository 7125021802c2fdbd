"""Calls of both clients, as their parts make them: a method of a service, with its request, timeout and priority."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

import grpc
import grpc.aio

from rankport.protos.priorities import Priority
from rankport.protos.processes.own_process import StaysInProcess
from rankport.sdk.transport.connections import AsyncConnection, Connection
from rankport.sdk.transport.retries import RetryBudget

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class Calls(StaysInProcess, ABC):
    """Base of the parts of the client that blocks."""

    _model: str
    _retries: RetryBudget

    @abstractmethod
    def _answer(
        self,
        method: "Callable[[Connection], grpc.UnaryUnaryMultiCallable[RequestT, AnswerT]]",
        request: RequestT,
        timeout_s: float | None,
        priority: Priority | None = None,
    ) -> AnswerT:
        """Calls a method."""

    @abstractmethod
    def _timeout(self, timeout_s: float | None) -> float | None:
        """Gives a call's timeout, or the client's."""


class CallsInLoops(StaysInProcess, ABC):
    """Base of the parts of the asyncio client."""

    _model: str
    _retries: RetryBudget

    @abstractmethod
    async def _answer(
        self,
        method: "Callable[[AsyncConnection], grpc.aio.UnaryUnaryMultiCallable[RequestT, AnswerT]]",
        request: RequestT,
        timeout_s: float | None,
        priority: Priority | None = None,
    ) -> AnswerT:
        """Calls a method."""

    @abstractmethod
    def _timeout(self, timeout_s: float | None) -> float | None:
        """Gives a call's timeout, or the client's."""
