"""Engines of one model on several devices: which of them takes a request.

A request goes where its prefix went before, as long as that engine has not much more to do than the idlest. An engine
that has stopped gets none; what it had not answered fails as it would alone.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import Overloaded, Unavailable
from rankport.runtime.backends.base import TokenRun
from rankport.runtime.encode_engine import Encoded, EncodeEngine
from rankport.runtime.engine import Engine, Scored, prefix_key
from rankport.runtime.prefix_cache import CacheStats

_log = logging.getLogger(__name__)


class _Engine(Protocol):
    @property
    def alive(self) -> bool: ...

    def close(self, grace_s: float = 0.0) -> None: ...


EngineT = TypeVar("EngineT", bound=_Engine)
T = TypeVar("T")


@dataclass(slots=True)
class _Replica(Generic[EngineT]):
    engine: EngineT
    number: int
    tokens: int = 0  # accepted and not answered
    lost: bool = False  # told already


class _Replicas(Generic[EngineT]):
    """The engines, and what each has to do. Any thread may call it."""

    def __init__(self, engines: Sequence[EngineT], slack_tokens: int) -> None:
        """`slack_tokens`: how much more than the idlest the engine of a prefix may have to do."""
        self._all = [_Replica(engine, number) for number, engine in enumerate(engines)]
        self._slack_tokens = slack_tokens
        self._lock = threading.Lock()

    def submit(
        self, call: Callable[[EngineT], "Future[T]"], tokens: int, home: int | None = None
    ) -> "Future[T]":
        """Has an engine take a request, the next one where its queue is full.

        Raises what the last of them raises, `Unavailable` if all have stopped.
        """
        refusal: Exception = Unavailable("all engines have stopped; load the model again")
        for replica in self._in_order(home):
            try:
                future = call(replica.engine)
            except Overloaded as error:
                refusal = error
                continue
            except Unavailable as error:
                self._tell_lost(replica)
                refusal = error
                continue
            self._add(replica, tokens)
            future.add_done_callback(lambda _, replica=replica: self._add(replica, -tokens))  # type: ignore[misc]
            return future
        raise refusal

    @property
    def alive(self) -> bool:
        """False once all have stopped."""
        return any(replica.engine.alive for replica in self._all)

    def close(self, grace_s: float) -> None:
        """All at the same time, so that one grace is enough."""
        with ThreadPoolExecutor(len(self._all), thread_name_prefix="rankport-close") as pool:
            for closed in [pool.submit(replica.engine.close, grace_s) for replica in self._all]:
                closed.result()

    def _in_order(self, home: int | None) -> list[_Replica[EngineT]]:
        with self._lock:
            by_work = sorted(self._all, key=lambda one: (one.tokens, one.number))
            idlest = by_work[0].tokens
        if home is not None:
            wanted = self._all[home % len(self._all)]
            if wanted.tokens <= idlest + self._slack_tokens:
                by_work.remove(wanted)
                by_work.insert(0, wanted)
        return by_work

    def _add(self, replica: _Replica[EngineT], tokens: int) -> None:
        with self._lock:
            replica.tokens += tokens

    def _tell_lost(self, replica: _Replica[EngineT]) -> None:
        if not replica.lost:
            replica.lost = True
            _log.error("the engine of device %d has stopped; the others go on", replica.number)


class ScoringReplicas:
    """Several `Engine`s as one. Thread-safe; owns and closes them."""

    def __init__(self, engines: Sequence[Engine], slack_tokens: int) -> None:
        self._engines = engines
        self._replicas = _Replicas(engines, slack_tokens)

    def submit(
        self,
        prefix: TokenRun,
        items: Sequence[TokenRun],
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
    ) -> "Future[Scored]":
        """See `Engine.submit`."""
        tokens = prefix.ids.size + sum(item.ids.size for item in items)
        return self._replicas.submit(
            lambda engine: engine.submit(prefix, items, timeout_s, spent_s=spent_s),
            tokens,
            crc32(prefix_key(prefix).tobytes()),
        )

    def cache_stats(self) -> CacheStats:
        """Of all devices together."""
        return CacheStats.total([engine.cache_stats() for engine in self._engines])

    @property
    def alive(self) -> bool:
        """False once all have stopped."""
        return self._replicas.alive

    def close(self, grace_s: float = 0.0) -> None:
        """See `Engine.close`."""
        self._replicas.close(grace_s)


class EncodingReplicas:
    """Several `EncodeEngine`s as one. Thread-safe; owns and closes them."""

    def __init__(self, engines: Sequence[EncodeEngine]) -> None:
        self._replicas = _Replicas(engines, slack_tokens=0)

    def submit(
        self, runs: Sequence[NDArray[np.int64]], timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[Encoded]":
        """See `EncodeEngine.submit`."""
        return self._replicas.submit(
            lambda engine: engine.submit(runs, timeout_s, spent_s=spent_s), sum(run.size for run in runs)
        )

    @property
    def alive(self) -> bool:
        """False once all have stopped."""
        return self._replicas.alive

    def close(self, grace_s: float = 0.0) -> None:
        """See `EncodeEngine.close`."""
        self._replicas.close(grace_s)
