"""Admission of calls, whatever front they come by: how many are worked on, what became of them, the last ones' end."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rankport.protos.errors import Overloaded, QuotaExceeded, Unavailable, http_status, status_code
from rankport.protos.priorities import PRIORITIES, Priority
from rankport.protos.wording import be, counted
from rankport.runtime.options import size_in_words
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.counts import CallCounts, Outcome
from rankport.runtime.server.observing.call import current_call
from rankport.runtime.server.observing.observer import Observer
from rankport.runtime.server.pace import Pace

_log = logging.getLogger(__name__)
_HTTP_STATUSES = {Outcome.CANCELLED: 499, Outcome.DEADLINE: 504}
_CODES = {Outcome.CANCELLED: "CANCELLED", Outcome.DEADLINE: "DEADLINE_EXCEEDED"}
_STOPPING = "the server is stopping; send the request to another one"


class Admission:
    """Admits work and counts calls. All fronts of a server share one, on the server's event loop.

    Work is a request that is read and waits for its answer; an open call or stream that sent nothing is none.
    """

    def __init__(self, config: ServerConfig, observer: Observer) -> None:
        self.counts = CallCounts()
        self.leaving = False  # a stop is announced: whoever asks is told that this server is not ready
        self.stopping = asyncio.Event()  # set once nothing new is admitted
        self.overloads = 0  # requests refused for lack of room, here or in an engine's queue
        self._refusals: Counter[tuple[Priority, str]] = Counter()
        self._observer = observer
        self._config = config
        self._pending = self._pending_bytes = 0
        self._calls: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)  # pending, by class
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._last_arrival_s = 0.0
        self._pace = Pace()

    @contextmanager
    def counted(self, given_up: Callable[[], Outcome]) -> Iterator[None]:
        """Wraps a call and takes notice of how it ends. `given_up` tells why its caller cancelled it."""
        try:
            yield
        except asyncio.CancelledError:
            self.given_up(given_up())
            raise
        except Exception as error:
            self.failed(error)
            raise
        self.answered()

    def answered(self) -> None:
        """Takes notice of a call that is answered."""
        self.counts.add(Outcome.ANSWERED)
        self._ended("OK")

    def given_up(self, why: Outcome) -> None:
        """Takes notice of a call that its caller gave up."""
        self.counts.add(why)
        self._ended(_CODES[why], _HTTP_STATUSES[why])

    def failed(self, error: Exception, status: int | None = None) -> None:
        """Takes notice of a call that ends with an error; `status` of HTTP where it is not the error's own."""
        self.counts.add_error(error)
        self.refused(error)
        self._ended(status_code(error).name, status or http_status(error))

    def refused(self, error: Exception) -> None:
        """Takes notice of an error that ends a request, of a call of its own or of a stream, if it is an overload."""
        if isinstance(error, Overloaded):
            self.overloads += not isinstance(error, QuotaExceeded)
            self._refusals[_priority(), error.reason] += 1

    def refusals(self) -> Mapping[tuple[Priority, str], int]:
        """Counts refused requests by class and reason; any thread may ask."""
        return self._refusals.copy()

    @contextmanager
    def admitted(self, nbytes: int, *, streamed: bool = False) -> Iterator[None]:
        """Wraps the work of a request of so many bytes; of one `streamed`, which was read before, behind a stop too.

        Raises:
            Unavailable: the server is stopping.
            QuotaExceeded: the caller had what it may have.
            Overloaded: as many requests, or bytes of them, are pending as may be; one alone always may.
        """
        self.enter(nbytes, streamed=streamed)
        try:
            yield
        finally:
            self.leave(nbytes)

    def enter(self, nbytes: int, *, streamed: bool = False) -> None:
        """Admits work as `admitted` does; `leave` follows."""
        self.check(nbytes, streamed=streamed)
        if (call := current_call()) is not None:
            call.nbytes += nbytes
            if call.quota is not None:
                call.quota.enter()
        self._calls[_priority()] += 1
        self._pending += 1
        self._pending_bytes += nbytes

    def check(self, nbytes: int = 0, *, streamed: bool = False) -> None:
        """Raises as `admitted` where work of so many bytes would not be admitted now; nothing is noted of it."""
        if not streamed:
            self.check_running()
        if (call := current_call()) is not None and call.quota is not None:
            call.quota.check()
        self._check_room(nbytes)

    def leave(self, nbytes: int) -> None:
        """Notes that work which `enter` admitted is done."""
        if (call := current_call()) is not None and call.quota is not None:
            call.quota.leave()
        self._calls[_priority()] -= 1
        self._pending -= 1
        self._pending_bytes -= nbytes
        self._pace.ended()

    @staticmethod
    def charge(items: int) -> None:
        """Takes the items of admitted work from what its caller has left."""
        if (call := current_call()) is not None and call.quota is not None:
            call.quota.charge(items)

    @property
    def pending(self) -> tuple[int, int, int]:
        """Requests worked on or waiting, their bytes, and the calls that are open; any thread may ask."""
        return self._pending, self._pending_bytes, self._open

    def check_running(self) -> None:
        """Raises `Unavailable` once the server is stopping."""
        if self.stopping.is_set():
            raise Unavailable(_STOPPING)

    def retry_after_s(self, error: Overloaded | None = None) -> float:
        """Tells when to come back: when the error says, else when half of what is pending will be done, as estimated.

        With jitter that spreads out who comes back.
        """
        if error is not None and error.retry_after_s is not None:
            return error.retry_after_s * random.uniform(1.0, 1.1)
        return self._pace.seconds_for(self._pending / 2) * random.uniform(0.5, 1.5)

    def retry_hint_s(self, error: Exception) -> float | None:
        """Tells when to come back after an error; None where nothing says that another try would do better."""
        if isinstance(error, Overloaded):
            return self.retry_after_s(error)
        return error.retry_after_s if isinstance(error, Unavailable) else None

    def opened(self) -> None:
        """Notes that a call arrived. `drain` waits until it is `closed`."""
        self._last_arrival_s = time.monotonic()
        self._open += 1
        self._none_open.clear()

    def closed(self) -> None:
        """Notes that a call's answer or refusal is on its way."""
        self._open -= 1
        if not self._open:
            self._none_open.set()

    async def drain(self, timeout_s: float) -> bool:
        """Refuses new work and waits for the calls that are open. True if none is left."""
        self.stopping.set()
        try:
            await asyncio.wait_for(self._none_open.wait(), timeout_s)
        except TimeoutError:  # without a grace also where none is open
            if self._open:
                _log.warning("%d calls were not done after %.1f s and are cut off", self._open, timeout_s)
            return False
        return True

    async def quiet(self, quiet_s: float, timeout_s: float) -> bool:
        """Waits until no call arrived for `quiet_s`, for `timeout_s` at most. True if so."""
        end_s = time.monotonic() + timeout_s
        while (now_s := time.monotonic()) < min(end_s, self._last_arrival_s + quiet_s):
            await asyncio.sleep(min(end_s, self._last_arrival_s + quiet_s) - now_s)
        return now_s >= self._last_arrival_s + quiet_s

    def _ended(self, code: str, status: int = 200) -> None:
        if (call := current_call()) is not None:
            call.http_status = status
            self._observer.end(call, code)

    def _check_room(self, nbytes: int) -> None:
        calls, most_bytes = (self._config.max_pending_calls, self._config.max_pending_bytes)
        lower, half = self._calls["background"], max(calls // 2, 1)
        if _priority() == "background" and lower >= half:
            raise Overloaded(
                f"{counted(lower, 'request')} in the background {be(lower)} pending, the limit is {half} of "
                f"{calls} (max_pending_calls); "
                "retry later"
            )
        if self._pending >= calls:
            raise Overloaded(
                f"{counted(self._pending, 'request')} {be(self._pending)} pending, the limit is {calls} "
                "(max_pending_calls); retry later"
            )
        if self._pending and self._pending_bytes + nbytes > most_bytes:
            raise Overloaded(
                f"pending requests have {self._pending_bytes} bytes and this one {nbytes}, the limit is "
                f"{size_in_words(most_bytes)} (max_pending_bytes); retry later"
            )


def _priority() -> Priority:
    call = current_call()
    return "interactive" if call is None else call.priority
