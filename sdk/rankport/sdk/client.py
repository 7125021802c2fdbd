"""Client that blocks: `Ranker` and `ItemEncoder` as a server offers them, with the same names and results."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Self, TypeVar

import grpc

from rankport.protos.arguments import checked_flag, checked_text, checked_timeout_s
from rankport.protos.errors import Unavailable
from rankport.protos.features import FeatureColumns
from rankport.protos.generation import Sampling
from rankport.protos.messages import wire
from rankport.protos.priorities import Priority, said_priority
from rankport.protos.ranking import Ranking, WeighingRanks
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
from rankport.sdk.describing import Describes
from rankport.sdk.generating import Generates, WrittenText
from rankport.sdk.model_admin import ModelAdmin
from rankport.sdk.reading import Reads
from rankport.sdk.server_jobs import ServerJobs, is_repeatable
from rankport.sdk.set_ranking import RanksSets
from rankport.sdk.streaming import Streams
from rankport.sdk.submitted import submitted
from rankport.sdk.transport.access import Tls, Token, checked_token, credentials_of, warn_in_clear
from rankport.sdk.transport.channels import ChannelOptions, Target
from rankport.sdk.transport.connections import Connection
from rankport.sdk.transport.retries import REFUSALS, RetryBudget, Tries
from rankport.sdk.transport.tracing import trace_metadata

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class Client(WeighingRanks, Streams, Generates, RanksSets, Reads, Describes):
    """Connection to a rankport server. Thread-safe; make one per process, not one per request.

    >>> with Client("localhost:8500", timeout_s=1.0) as client:
    ...     client.score("nurse", ["hospital nurse", "welder"]).scores

    Every call raises the `RankportError` that the same call raises in process, and `Unavailable` if the server
    cannot be reached.
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
        """Connects with the first call.

        Args:
            address: host:port, or any gRPC target. Servers of a list of host:port, and all those that dns:///host:port
                stands for, are asked in turn; names in a list are looked up here, once.
            model: which of the server's models; may stay empty where one model fits the call.
            timeout_s: of calls that give none themselves; None waits for ever.
            token: goes with every call, as `authorization: Bearer`; a function is asked for it each time. Without TLS
                others on the way can read it, which the log says.
            tls: True for TLS with the authorities that gRPC knows, or `Tls(ca=FILE)` with others.
            credentials: in place of `tls`, of any kind that gRPC has.
            options: gRPC channel options, over the defaults.
            retry: calls that no server could take (`Unavailable`, `Overloaded`) are made up to three times more, within
                their timeout, as long as retries stay few among all calls.
        """
        self._target = Target.of(address)
        self._address = self._target.told
        self._model = checked_text(model, "model")
        self._timeout_s = checked_timeout_s(timeout_s)
        secured = credentials_of(tls, credentials)
        opened = self._target.options(options, secure=secured is not None)
        self._connecting = (self._target.uri, secured, opened, checked_token(token))
        warn_in_clear(token, self._address, clear=secured is None and not self._target.is_here)
        self._retries = RetryBudget(enabled=checked_flag(retry, "retry"))
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r}, model={self._model!r})"

    def score(
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
        """Scores `items` against their shared prefix, as the model does in process.

        Args:
            prefix: the prompt's fields by name, the text of its only one, or token ids; of two towers a text, or what
                they make of one.
            items: texts, lists of token ids, `Key`s of stored ones, arrays of embedding tokens; all of one form or not.
            timeout_s: of the call with all its retries; None: the client's.
            truncation: "truncate" cuts texts over a limit, and their status says so; "error" refuses the request.
            on_missing: "skip" gives keys that are not stored a status and no score, "fail" refuses the request,
                "encode" has the server encode the text beside a key.
            features: of two towers, the numbers that go with each item.
            priority: class of the call, in the place of what `rankport.sdk.priority` says around it.

        Raises:
            RankportError: as the model does in process; `Unavailable` where no server can be reached.
        """
        timeout_s = self._timeout(timeout_s)
        request = wire.score_request(self._model, prefix, items, truncation, on_missing, features)
        response = self._answer(lambda to: to.scoring.Score, request, timeout_s, priority)
        return wire.score_result(response)

    def rank(
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
        """Scores as `score`, and sorts as `Ranker.rank`."""
        with said_priority(priority):
            return super().rank(
                prefix,
                items,
                top_k,
                return_items,
                timeout_s,
                truncation=truncation,
                on_missing=on_missing,
                features=features,
            )

    def submit(
        self,
        prefix: Query,
        items: Iterable[Item],
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_missing: OnMissing = "skip",
        features: Features | FeatureColumns | None = None,
        priority: Priority | None = None,
    ) -> "Future[ScoreResult]":
        """Scores as `score`, at once with a future. `cancel()` on it cancels the work at the server."""
        timeout_s = self._timeout(timeout_s)
        request = wire.score_request(self._model, prefix, items, truncation, on_missing, features)
        method, traced = self._connected().scoring.Score, trace_metadata(priority, self._model)
        return submitted(
            lambda left_s: method.future(request, timeout=left_s, metadata=traced),
            wire.score_result,
            lambda: rankport_errors(self._address, timeout_s),
            self._retries.tries(timeout_s),
        )

    @property
    def admin(self) -> ModelAdmin:
        """Versions and aliases of the models; `timeout_s` is each call's own. `InvalidRequest` for several servers."""
        return ModelAdmin(
            self._target,
            lambda method, request, timeout_s: self._answer(
                lambda to: method(to.admin), request, timeout_s, repeatable=False
            ),
        )

    @property
    def jobs(self) -> ServerJobs:
        """Offline jobs of the server; `timeout_s` is each call's own. Raises `InvalidRequest` for several servers."""
        return ServerJobs(
            self._target,
            lambda method, request, timeout_s: self._answer(
                lambda to: method(to.jobs), request, timeout_s, repeatable=is_repeatable(request)
            ),
            lambda: self._connected().jobs,
            goes_on=self._retries.enabled,
        )

    def close(self) -> None:
        """Ends the connection; calls in progress raise `RequestCancelled`. Does nothing to that of a forked parent."""
        self._closed = True
        if (connection := self._connection) is not None and not connection.process.forked:
            connection.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(
        self,
        method: "Callable[[Connection], grpc.UnaryUnaryMultiCallable[RequestT, AnswerT]]",
        request: RequestT,
        timeout_s: float | None,
        priority: Priority | None = None,
        *,
        repeatable: bool = True,
    ) -> AnswerT:
        """Calls a method, again where no server took the call; unless `repeatable`, only if `Overloaded`."""
        tries = self._retries.tries(timeout_s)
        traced = trace_metadata(priority, getattr(request, "model", ""))
        while True:
            call = method(self._connected())
            try:
                with rankport_errors(self._address, timeout_s):
                    return call(request, timeout=tries.left_s(), metadata=traced)
            except REFUSALS as error:
                if isinstance(error, Unavailable) and not repeatable:
                    raise
                time.sleep(tries.wait_s(error))

    def _connected(self) -> Connection:
        if self._closed:
            raise closed_client(self._address)
        if self._connection is None:
            with self._lock:
                self._connection = self._connection or Connection.to(*self._connecting)
            if self._closed:  # meanwhile, by a thread that may have found no connection
                self._connection.channel.close()
                raise closed_client(self._address)
        self._connection.process.check(f"the client of {self._address} connected", "make a client")
        return self._connection

    def _written(
        self,
        request: pb.GenerateRequest,
        sampling: Sampling,
        timeout_s: float | None,
        tries: Tries,
        priority: Priority | None,
    ) -> WrittenText:
        generation, traced = self._connected().generation, trace_metadata(priority, self._model)
        return WrittenText(
            lambda left_s: generation.Generate(request, timeout=left_s, metadata=traced),
            sampling,
            self._address,
            timeout_s,
            tries,
        )

    def _timeout(self, timeout_s: float | None) -> float | None:
        return self._timeout_s if timeout_s is None else checked_timeout_s(timeout_s)
