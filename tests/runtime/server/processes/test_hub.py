"""Orders that meet the end of the front that takes them first."""

import queue
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from rankport.protos.errors import BackendError, InvalidRequest, Unavailable
from rankport.runtime.server.lifecycle.orders import AdminOrder, UnloadOrder
from rankport.runtime.server.lifecycle.saved import SavedState, SavedVersion, read_state, write_state
from rankport.runtime.server.processes.child_process import ChildProcess
from rankport.runtime.server.processes.control import Asked, Told
from rankport.runtime.server.processes.hub import Hub
from support.engines import WAIT_S


def state_of(*versions: str) -> SavedState:
    return SavedState(
        versions=[SavedVersion(name="jobs", version=each, path=each, fingerprint="f") for each in versions]
    )


class FakeFront:
    """Front that writes the state of an order that it takes, and refuses it or ends then."""

    def __init__(self, state: Path, *, ends: bool = False) -> None:
        self.name, self.answers = "front", True
        self.took: list[AdminOrder] = []
        self.ended = False
        self.told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._state, self._ends = state, ends

    def take(self, order: AdminOrder) -> "Future[Any]":
        self.took.append(order)
        done = Future[Any]()
        if self._ends:
            write_state(self._state, state_of("2"), shared=True)
            self.answers = False
        done.set_result(Unavailable("it ended") if self._ends else InvalidRequest("no"))
        return done

    def tell(self, said: Any) -> None:
        self.told.put(said)

    def end(self) -> None:
        self.ended = True


def test_orders_are_taken_after_one_that_could_not_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    front, failures = FakeFront(tmp_path / "state.json"), [MemoryError("no memory")]

    def fronts() -> Sequence[ChildProcess]:
        if failures:
            raise failures.pop()
        return [cast(ChildProcess, front)]

    hub = Hub(fronts, dict, lambda: str(tmp_path / "state.json"))
    for _ in range(2):
        hub.ask(cast(ChildProcess, front), Asked(0, UnloadOrder("jobs@1")))
    told = [front.told.get(timeout=WAIT_S).changed for _ in range(2)]
    hub.close()
    assert [type(changed) for changed in told] == [BackendError, InvalidRequest]
    assert "an order could not be taken" in caplog.text


@pytest.mark.parametrize("ends", [True, False])
def test_an_order_that_a_front_ends_at_leaves_the_state_that_the_others_have(
    tmp_path: Path, ends: bool
) -> None:
    state = tmp_path / "state.json"
    write_state(state, state_of("1"))
    asking, first, comes_back = FakeFront(state), FakeFront(state, ends=ends), FakeFront(state)
    now: list[FakeFront] = [first, asking]
    hub = Hub(lambda: cast(Sequence[ChildProcess], now), dict, lambda: str(state))
    take = first.take

    def take_and_come_back(order: AdminOrder) -> "Future[Any]":
        done = take(order)
        now[0] = comes_back
        return done

    first.take = take_and_come_back  # type: ignore[method-assign]
    hub.ask(cast(ChildProcess, asking), Asked(3, UnloadOrder("jobs@1")))
    told = asking.told.get(timeout=WAIT_S)
    hub.close()
    assert told.number == 3
    assert isinstance(told.changed, Unavailable if ends else InvalidRequest)
    assert read_state(state) == state_of("1")
    assert not asking.took
    assert comes_back.ended is ends  # it may have read the other one
