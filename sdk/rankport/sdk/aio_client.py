"""Client for asyncio: the calls of `Client` as coroutines, but `submit`, `admin` and `jobs`."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Self, TypeVar

import grpc

from rankport.protos.arguments import (
    checked_flag,
    checked_items,
    checked_text,
    checked_timeout_s,
    checked_top_k,
)
from rankport.protos.features import FeatureColumns
from rankport.protos.messages import wire
from rankport.protos.priorities import Priority
from rankport.protos.ranking import Ranking
from rankport.protos.types import (
    Features,
    Item,
    OnMissing,
    Query,
    ScoreResult,
    Truncation,
)
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.sdk._remote import closed_client, rankport_errors
from rankport.sdk.describing import DescribesInLoops
from rankport.sdk.generating import GeneratesInLoops
from rankport.sdk.reading import ReadsInLoops
from rankport.sdk.set_ranking import RanksSetsInLoops
from rankport.sdk.streaming import StreamsInLoops
from rankport.sdk.transport.access import Tls, Token, checked_token, credentials_of, warn_in_clear
from rankport.sdk.transport.channels import ChannelOptions, Target
from rankport.sdk.transport.connections import AsyncConnection
from rankport.sdk.transport.retries import REFUSALS, RetryBudget
from rankport.sdk.transport.tracing import Metadata, trace_metadata

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class AsyncClient(StreamsInLoops, RanksSetsInLoops, GeneratesInLoops, ReadsInLoops, DescribesInLoops):
    """Connection to a rankport server, for any event loop: each that it is called in has a channel of its own.

    >>> async with AsyncClient("localhost:8500", timeout_s=1.0) as client:
    ...     (await client.score("nurse", ["hospital nurse", "welder"])).scores

    Arguments, results and errors are those of `Client`. Cancelling a call's task cancels its work at the server.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        model: str = "",
        timeout_s: float | None = None,
        *,
        token: Token | None = None,
        tls: Tls | bool = False,
        credentials: grpc.ChannelCredentials | None = None,
        options: ChannelOptions = (),
        retry: bool = True,
    ) -> None:
        """Takes what `Client` takes, and connects with the first call in a loop; may be made outside of one."""
        self._target = Target.of(address)
        self._address = self._target.told
        self._model = checked_text(model, "model")
        self._timeout_s = checked_timeout_s(timeout_s)
        self._token = checked_token(token)
        self._credentials = credentials_of(tls, credentials)
        warn_in_clear(token, self._address, clear=self._credentials is None and not self._target.is_here)
        self._options = self._target.options(options, secure=self._credentials is not None)
        self._retries = RetryBudget(enabled=checked_flag(retry, "retry"))
        self._lock = threading.Lock()
        self._by_loop: dict[asyncio.AbstractEventLoop, AsyncConnection] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r}, model={self._model!r})"

    async def score(
        self,
        prefix: Query,
        items: Iterable[Item],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
        priority: Priority | None = None,
    ) -> ScoreResult:
        """Scores as `Client.score`."""
        timeout_s = self._timeout(timeout_s)
        request = wire.score_request(self._model, prefix, items, truncation, on_missing, features)
        response = await self._answer(lambda to: to.scoring.Score, request, timeout_s, priority)
        return wire.score_result(response)

    async def rank(
        self,
        prefix: Query,
        items: Iterable[Item],
        top_k: int | None = None,
        return_items: bool = False,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
        priority: Priority | None = None,
    ) -> Ranking:
        """Ranks as `Client.rank`."""
        top_k, shown = checked_top_k(top_k), checked_flag(return_items, "return_items")
        given = checked_items(items)
        result = await self.score(
            prefix,
            given,
            timeout_s,
            truncation=truncation,
            on_missing=on_missing,
            features=features,
            priority=priority,
        )
        return Ranking.of(result, given if shown else None, top_k)

    async def _written(
        self,
        request: pb.GenerateRequest,
        timeout_s: float | None,
        left_s: float | None,
        traced: Metadata | None,
    ) -> AsyncIterator[pb.GenerateResponse]:
        with rankport_errors(self._address, timeout_s):
            call = self._connected().generation.Generate(request, timeout=left_s, metadata=traced)
            try:
                async for message in call:
                    yield message
            finally:
                call.cancel()

    async def close(self) -> None:
        """Ends the connections of all loops; calls in progress raise `RequestCancelled`."""
        self._closed = True
        with self._lock:
            connections, self._by_loop = self._by_loop, {}
        here = asyncio.get_running_loop()
        for loop, connection in connections.items():
            if connection.process.forked:
                continue
            if loop is here:
                await connection.channel.close()
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(connection.channel.close(), loop)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _answer(
        self,
        method: "Callable[[AsyncConnection], grpc.aio.UnaryUnaryMultiCallable[RequestT, AnswerT]]",
        request: RequestT,
        timeout_s: float | None,
        priority: Priority | None = None,
    ) -> AnswerT:
        """Calls a method, again where no server could take the call and there is time."""
        tries = self._retries.tries(timeout_s)
        traced = trace_metadata(priority, getattr(request, "model", ""))
        while True:
            call = method(self._connected())
            try:
                with rankport_errors(self._address, timeout_s):
                    return await call(request, timeout=tries.left_s(), metadata=traced)
            except REFUSALS as error:
                await asyncio.sleep(tries.wait_s(error))

    def _connected(self) -> "AsyncConnection":
        """Gives the connection of the running loop; those of loops that have ended are let go."""
        if self._closed:
            raise closed_client(self._address)
        loop = asyncio.get_running_loop()
        connection = self._by_loop.get(loop)
        if connection is None:
            with self._lock:
                if self._closed:  # meanwhile, by a thread that closed all connections but this one
                    raise closed_client(self._address)
                left = {each: has for each, has in self._by_loop.items() if not each.is_closed()}
                for has in left.values():
                    self._check_process(has)
                connection = self._connect()
                self._by_loop = {**left, loop: connection}
        self._check_process(connection)
        return connection

    def _check_process(self, connection: "AsyncConnection") -> None:
        connection.process.check(f"the client of {self._address} connected", "make a client")

    def _connect(self) -> "AsyncConnection":
        return AsyncConnection.to(self._target.uri, self._credentials, self._options, self._token)

    def _timeout(self, timeout_s: float | None) -> float | None:
        return self._timeout_s if timeout_s is None else checked_timeout_s(timeout_s)
