"""Futures of the blocking client: each ends, whatever keeps its call from being made again."""

from contextlib import nullcontext
from threading import Timer
from typing import NoReturn

import pytest

from rankport.protos.errors import Overloaded
from rankport.sdk.submitted import submitted
from rankport.sdk.transport.retries import RetryBudget


class Refused:
    """A call that the server has refused."""

    def result(self) -> NoReturn:
        raise Overloaded("full")

    def cancel(self) -> bool:
        return False

    def add_done_callback(self, fn: "object", /) -> None:
        assert callable(fn)
        fn(self)


def test_a_process_without_room_for_a_thread_ends_with_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: Timer) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Timer, "start", start)
    future = submitted(lambda left_s: Refused(), str, nullcontext, RetryBudget().tries(None))
    assert isinstance(future.exception(0), Overloaded)
