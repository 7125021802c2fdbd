"""`Replicas`: the engines of one model, one a device, and which of them takes a request.

A request goes where its prefix went before, as long as that engine has not much more to do than the idlest. An engine
that has stopped, its device lost say, gets no more; what it had not answered fails with `Unavailable`. The model lives
while one engine does.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from rankport.protos.errors import Overloaded, Unavailable
from rankport.protos.priorities import Priority
from rankport.protos.processes.own_process import OwnProcess
from rankport.runtime.scheduling.counts import EngineCounts
from rankport.runtime.scheduling.loaded_here import check_loaded_here

_log = logging.getLogger(__name__)


class AnyEngine(Protocol):
    """An engine as far as replicas know it."""

    @property
    def alive(self) -> bool: ...

    def counts(self) -> EngineCounts: ...

    def check_room(self, timeout_s: float | None, priority: Priority) -> None: ...

    def stop(self, grace_s: float = 0.0) -> None: ...

    def close(self, grace_s: float = 0.0) -> None: ...


EngineT = TypeVar("EngineT", bound=AnyEngine)
T = TypeVar("T")


@dataclass(slots=True)
class _Replica(Generic[EngineT]):
    engine: EngineT
    gpu: int
    tokens: int = 0  # accepted and not answered
    lost: bool = False  # told already


class Replicas(Generic[EngineT]):
    """The engines by device, often one, and what each has to do. Any thread may call it; owns and closes them."""

    def __init__(self, engines: Mapping[int, EngineT], slack_tokens: int = 0) -> None:
        """Takes the engines over. `slack_tokens`: how much more than the idlest a prefix's engine may have to do."""
        self._all = [_Replica(engine, gpu) for gpu, engine in engines.items()]
        self._slack_tokens = slack_tokens
        self._closed = False
        self._process = OwnProcess()
        self._lock = threading.Lock()

    @property
    def engines(self) -> tuple[EngineT, ...]:
        """All of them, those that have stopped too."""
        return tuple(replica.engine for replica in self._all)

    def submit(
        self, call: Callable[[EngineT], "Future[T]"], tokens: int, home: Callable[[], int] | None = None
    ) -> "Future[T]":
        """Has an engine take a request, the next one where its queue is full. Equal `home`s go to one engine.

        Raises `Overloaded` if one only lacks room, else `Unavailable`.
        """
        self.check_process()
        if len(self._all) == 1:
            return call(self._all[0].engine)
        refusal: Overloaded | Unavailable = Unavailable("all engines have stopped; load the model again")
        for replica in self._in_order(None if home is None else home()):
            try:
                future = call(replica.engine)
            except Overloaded as error:
                refusal = error
                continue
            except Unavailable as error:
                # It stopped since it was looked at.
                refusal = refusal if isinstance(refusal, Overloaded) else error
                continue
            self._add(replica, tokens)
            future.add_done_callback(lambda _, replica=replica: self._add(replica, -tokens))  # type: ignore[misc]
            return future
        raise refusal

    def check_room(self, timeout_s: float | None, priority: Priority) -> None:
        """Raises `Overloaded` where the queues of all that run would refuse any request like those of late."""
        refusal: Overloaded | None = None
        for replica in self._all:
            if not replica.engine.alive:
                continue
            try:
                replica.engine.check_room(timeout_s, priority)
            except Overloaded as error:
                refusal = error
            else:
                return
        if refusal is not None:
            raise refusal

    def check_process(self) -> None:
        """Raises `Unavailable` in a child forked from the process that loaded the model."""
        check_loaded_here(self._process)

    @property
    def alive(self) -> bool:
        """False once all have stopped."""
        return any(replica.engine.alive for replica in self._all)

    def counts(self) -> dict[str, EngineCounts]:
        """Returns the counters of each engine, by what it runs on."""
        counted = ((replica.gpu, replica.engine.counts()) for replica in self._all)
        return {
            counts.device if counts.device == "cpu" else f"{counts.device}:{gpu}": counts
            for gpu, counts in counted
        }

    def close(self, grace_s: float = 0.0) -> None:
        """Closes all at the same time, so that one grace is enough; also from a callback of one of them."""
        self._closed = True
        for replica in self._all:
            replica.engine.stop(grace_s)
        for replica in self._all:
            replica.engine.close(grace_s)

    def _in_order(self, home: int | None) -> list[_Replica[EngineT]]:
        """Lists the replicas that run, the first to be asked first."""
        running = [replica for replica in self._all if self._runs(replica)]
        with self._lock:
            by_work = sorted(running, key=lambda replica: replica.tokens)
        if home is None or not by_work:
            return by_work
        wanted = running[home % len(running)]
        if wanted.tokens <= by_work[0].tokens + self._slack_tokens:
            by_work.remove(wanted)
            by_work.insert(0, wanted)
        return by_work

    def _runs(self, replica: _Replica[EngineT]) -> bool:
        if replica.engine.alive:
            return True
        if not replica.lost and not self._closed:
            replica.lost = True
            _log.error("the engine on GPU %d has stopped; the others go on", replica.gpu)
        return False

    def _add(self, replica: _Replica[EngineT], tokens: int) -> None:
        with self._lock:
            replica.tokens += tokens
