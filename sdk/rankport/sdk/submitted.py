"""`SubmittedCall`: a call of the blocking client whose answer is a future, with the retries of one that waits."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar

from rankport.protos.processes.own_future import OwnFuture
from rankport.sdk.transport.retries import REFUSALS, Refusal, Tries

AnswerT = TypeVar("AnswerT", covariant=True)
ResultT = TypeVar("ResultT")


class Begun(Protocol[AnswerT]):
    """A call under way, as gRPC has it."""

    def result(self) -> AnswerT: ...

    def cancel(self) -> bool: ...

    def add_done_callback(self, fn: Callable[[object], None], /) -> None: ...


class SubmittedCall(Generic[AnswerT, ResultT]):
    """The attempts of one call, and the future of its result."""

    def __init__(
        self,
        begin: Callable[[float | None], Begun[AnswerT]],
        read: Callable[[AnswerT], ResultT],
        errors: Callable[[], AbstractContextManager[None]],
        tries: Tries,
    ) -> None:
        """Takes what begins an attempt of so many seconds, reads its answer, and translates errors."""
        self.future: Future[ResultT] = OwnFuture()
        self._begin, self._read, self._errors, self._tries = begin, read, errors, tries
        self._call: Begun[AnswerT] | None = None

    def start(self) -> None:
        """Begins an attempt. Raises what is known at once."""
        with self._errors():
            self._call = self._begin(self._tries.left_s())
        self._call.add_done_callback(self._finish)
        if self.future.cancelled():  # since the attempt before
            self._call.cancel()

    def cancel_if(self, done: "Future[ResultT]") -> None:
        """Cancels the call at the server where the future was cancelled."""
        if done.cancelled() and self._call is not None:
            self._call.cancel()

    def _finish(self, _: object) -> None:
        assert self._call is not None
        if self.future.cancelled():
            self.future.set_running_or_notify_cancel()
            return
        try:
            with self._errors():
                answer = self._call.result()
            self._settle(self.future.set_result, self._read(answer))
        except REFUSALS as error:
            self._try_again(error)
        except Exception as error:
            self._settle(self.future.set_exception, error)

    def _try_again(self, error: Refusal) -> None:
        try:
            timer = threading.Timer(self._tries.wait_s(error), self._start_again)
            timer.daemon = True
            timer.start()
        except (*REFUSALS, RuntimeError):  # it is not made again, or no thread is to be had
            self._settle(self.future.set_exception, error)

    def _start_again(self) -> None:
        if self.future.cancelled():
            self.future.set_running_or_notify_cancel()
            return
        try:
            self.start()
        except Exception as error:
            self._settle(self.future.set_exception, error)

    def _settle(
        self, settle: Callable[[ResultT], None] | Callable[[BaseException], None], value: object
    ) -> None:
        if self.future.set_running_or_notify_cancel():
            settle(value)  # type: ignore[arg-type]


def submitted(
    begin: Callable[[float | None], Begun[AnswerT]],
    read: Callable[[AnswerT], ResultT],
    errors: Callable[[], AbstractContextManager[None]],
    tries: Tries,
) -> "Future[ResultT]":
    """Makes a call whose answer is the future's result. `cancel()` on it cancels the work at the server."""
    call = SubmittedCall(begin, read, errors, tries)
    call.future.add_done_callback(call.cancel_if)
    call.start()
    return call.future
