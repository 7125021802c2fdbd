"""Classes of priority: interactive requests first, the background its stated share, and room for each."""

import threading
from concurrent.futures import wait

import pytest

from rankport.protos.errors import InvalidRequest, Overloaded
from rankport.protos.priorities import Priority, own_priority, priority
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.config import EngineConfig
from rankport.runtime.scheduling.passes.pass_plan import ItemWork, PassLimits, plan_items
from rankport.runtime.scheduling.queue.backlog import Backlog
from rankport.runtime.scheduling.queue.turns import Turns
from rankport.runtime.scheduling.queue.waiting import Waiting
from support.engines import ITEMS, WAIT_S, Sized, gated, ones, running, scored
from support.reference_backend import ReferenceBackend, submit, token_run

BULK, PASS = 50, 200


class Device:
    """Passes over requests of both classes, one after the other, as a worker makes them."""

    def __init__(self, share: float = 0.1) -> None:
        self.turns = Turns(BULK, share)
        self.active: list[Sized] = []
        self.tokens: dict[Priority, int] = {"interactive": 0, "background": 0}

    def add(self, name: str, tokens: int, of: Priority) -> Sized:
        request = Sized.of(name, tokens, of)
        self.turns.size(request)
        self.active.append(request)
        return request

    def run(self) -> dict[str, int]:
        """Makes a pass. Returns the tokens that each request had of it."""
        ordered = self.turns.order(self.active)
        limits = PassLimits(PASS, 1.5, self.turns.bulk_limit(self.active))
        takes = plan_items([ItemWork(ones(each.left), 10, each.name, each.large) for each in ordered], limits)
        served = [(request, take) for request, take in zip(ordered, takes, strict=True) if take]
        self.turns.charge(self.active, served)
        for request, take in served:
            request.left -= take
            request.had += take
            self.tokens[request.priority] += take
        self.active = [request for request in self.active if request.left]
        return {request.name: take for request, take in served}


def test_the_background_waits_while_interactive_requests_are_there() -> None:
    device = Device()
    device.add("bulk", 1000, "background")
    device.add("asked", 300, "interactive")
    assert device.run() == {"asked": PASS}  # a lone one takes it whole, though another waits behind it
    assert device.run() == {"asked": 100}
    assert device.run() == {"bulk": BULK}


def test_the_background_has_whole_passes_once_nobody_has_asked_for_a_while() -> None:
    device = Device()
    device.add("bulk", 20_000, "background")
    assert device.run() == {"bulk": PASS}
    device.add("asked", 10, "interactive")
    assert device.run() == {"asked": 10}
    passes = [device.run()["bulk"] for _ in range(40)]
    assert passes == [BULK] * 31 + [PASS] * 9


@pytest.mark.parametrize("share", [0.1, 0.25])
@pytest.mark.parametrize("tokens", [20, BULK, 400])
def test_a_stream_of_interactive_requests_leaves_the_background_its_share(share: float, tokens: int) -> None:
    device = Device(share)
    device.add("bulk", 10**6, "background")
    for number in range(400):
        if sum(each.priority == "interactive" for each in device.active) < 3:
            device.add(f"asked {number}", tokens, "interactive")
        device.run()
    had = device.tokens["background"] / sum(device.tokens.values())
    assert had == pytest.approx(
        min(share, 1 / 5 if tokens > PASS else 1), rel=0.1
    )  # 1 / 5: in every other pass


def test_an_interactive_request_waits_for_one_pass_of_the_background_at_most() -> None:
    device = Device(0.5)
    device.add("bulk", 10**6, "background")
    for number in range(300):
        request, waits = device.add(f"asked {number}", 40, "interactive"), 0
        while not request.had:
            assert sum(device.run().values()) <= BULK
            waits += 1
        assert waits <= 2


def test_without_a_share_the_background_has_what_is_left_alone() -> None:
    device = Device(0.0)
    device.add("bulk", 1000, "background")
    for number in range(200):
        device.add(f"asked {number}", 20, "interactive")
        device.run()
    assert device.tokens["background"] == 0
    assert device.run() == {"bulk": BULK}


def test_requests_of_the_background_share_its_tokens_alike() -> None:
    device = Device()
    bulk = [device.add(f"bulk {number}", 10**5, "background") for number in range(3)]
    for number in range(2000):
        device.add(f"asked {number}", 20, "interactive")
        device.run()
    shares = [request.had for request in bulk]
    assert sum(shares) > 3000
    assert max(shares) - min(shares) <= 2 * BULK


def test_each_class_has_places_that_the_other_cannot_take() -> None:
    waiting, active = Waiting[Sized](4), list[Sized]()
    for number in range(6):
        waiting.add(Sized.of(f"bulk {number}", 10, "background"))
    waiting.admit(active)
    assert [each.name for each in active] == ["bulk 0", "bulk 1", "bulk 2"]
    for number in range(6):
        waiting.add(Sized.of(f"asked {number}", 10, "interactive"))
    waiting.admit(active)
    assert [each.name for each in active[3:]] == [
        "asked 0",
        "asked 1",
    ]  # of 4 places, beside one of the background
    full = [Sized.of(f"asked {number}", 10, "interactive") for number in range(4)]
    waiting.admit(full)
    assert [each.name for each in full[4:]] == ["bulk 3"]


def test_the_background_has_half_of_the_queue_and_interactive_requests_all_that_is_left() -> None:
    with gated(EngineConfig(max_queued_requests=4)) as (engine, _, gate):
        with priority("background"):
            accepted = [submit(engine, token_run(1), ITEMS) for _ in range(2)]
            told = r"2 requests \(max_queued_requests 2, half of it, for requests in the background\)"
            with pytest.raises(Overloaded, match=told):
                submit(engine, token_run(1), ITEMS)
        accepted += [submit(engine, token_run(1), ITEMS) for _ in range(2)]
        queue = engine.counts().queue
        assert (queue.waiting_requests, queue.background.requests) == (4, 2)
        assert (queue.waiting_tokens, queue.background.tokens) == (28, 14)
        with pytest.raises(Overloaded, match=r"4 requests \(max_queued_requests 4\)"):
            submit(engine, token_run(1), ITEMS)
        gate.opened.set()
        wait(accepted, WAIT_S)


def test_tokens_of_the_background_leave_half_of_the_room() -> None:
    with gated(EngineConfig(max_queued_tokens=40)) as (engine, _, gate):
        with priority("background"):
            accepted = [submit(engine, token_run(1), ITEMS) for _ in range(2)]  # 7 tokens each
            with pytest.raises(Overloaded, match=r"14 tokens \(max_queued_tokens 20\)"):
                submit(engine, token_run(1), ITEMS)
        accepted.append(submit(engine, token_run(1), ITEMS * 4))  # 25, the first of its class
        gate.opened.set()
        assert all(future.result(WAIT_S) for future in accepted)


def test_the_engine_computes_what_came_later_and_is_waited_for_first() -> None:
    backend, begun, held = ReferenceBackend(), threading.Event(), threading.Event()
    order: list[int] = []

    def note(kind: str, batch: PrefixBatch) -> None:
        order.extend({int(run.ids[0]) for run in batch.runs} & {7, 8, 9})
        if not begun.is_set():
            begun.set()
            assert held.wait(WAIT_S)

    backend.before_pass = note
    with running(backend, EngineConfig(max_batch_tokens=10)) as engine:
        with priority("background"):
            futures = [submit(engine, token_run(), [token_run(number, 1, 1)] * 4) for number in (7, 8)]
        assert begun.wait(WAIT_S)
        futures.append(submit(engine, token_run(), [token_run(9, 1, 1)] * 4))
        held.set()
        for future in futures:
            scored(future)
    first = order[0]
    assert order[1:3] == [9, 9]
    assert {first, *order[3:]} == {7, 8}


def test_the_wait_of_a_class_is_that_of_those_before_it() -> None:
    backlog = Backlog(EngineConfig(max_batch_tokens=1000, max_bulk_tokens=250, background_share=0.2))
    backlog.enter(500)
    backlog.leave(500, answered=True, busy_s=5.0)
    backlog.enter(4000, "background")
    assert backlog.wait_s(100) is None  # of its class it is alone
    backlog.enter(300, "interactive")
    assert backlog.wait_s(500) == pytest.approx(800 / 80)
    assert backlog.wait_s(100, "background") == pytest.approx(44.0)


def test_a_wait_beyond_the_limit_is_refused_whatever_time_a_request_has() -> None:
    backlog = Backlog(EngineConfig(max_queue_s=10.0))
    backlog.enter(500)
    backlog.leave(500, answered=True, busy_s=5.0)
    backlog.check(1_000_000, None)  # an idle engine takes all
    for _ in range(4):
        backlog.enter(200)
    backlog.check(200, None)
    with pytest.raises(Overloaded, match=r"take about 12.0 s, the limit is 10 s \(max_queue_s\)") as refused:
        backlog.check(400, 60.0)
    assert refused.value.retry_after_s == pytest.approx(2.0)
    assert refused.value.reason == "wait"


def test_a_class_is_that_of_the_block() -> None:
    assert own_priority() == "interactive"
    with priority("background"):
        assert Sized.of("bulk", 1).priority == own_priority() == "background"
    assert Sized.of("asked", 1).priority == "interactive"
    told = "priority is 'urgent': it must be one of interactive, background"
    with pytest.raises(InvalidRequest, match=told), priority("urgent"):  # type: ignore[arg-type]
        pass
