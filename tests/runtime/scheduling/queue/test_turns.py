"""Turns: small requests next, large ones alike, nobody stopped, and a lone request has whole passes."""

import pytest

from rankport.runtime.scheduling.passes.pass_plan import ItemWork, PassLimits, plan_items
from rankport.runtime.scheduling.queue.turns import Turns
from support.engines import Sized, ones

BULK, PASS = 50, 200


class Device:
    """Passes over what is active, one after the other, as a worker makes them."""

    def __init__(self, past_of_small: int = 10) -> None:
        self.turns = Turns(BULK)
        self.past_of_small = past_of_small
        self.active: list[Sized] = []
        self.passes: list[dict[str, int]] = []

    def add(self, name: str, tokens: int) -> Sized:
        request = Sized.of(name, tokens)
        self.turns.size(request)
        self.active.append(request)
        return request

    def run(self) -> dict[str, int]:
        """Makes a pass. Returns the tokens that each request had of it."""
        ordered = self.turns.order(self.active)
        limits = PassLimits(PASS, 1.5, self.turns.bulk_limit(self.active))
        work = [
            ItemWork(ones(each.left), 10 if each.large else self.past_of_small, each.name, each.large)
            for each in ordered
        ]
        takes = plan_items(work, limits)
        served = [(request, take) for request, take in zip(ordered, takes, strict=True) if take]
        self.turns.charge(self.active, served)
        for request, take in served:
            request.left -= take
            request.had += take
        self.active = [request for request in self.active if request.left]
        self.passes.append({request.name: take for request, take in served})
        return self.passes[-1]


def test_a_lone_request_has_whole_passes() -> None:
    device = Device()
    device.add("large", 10 * PASS)
    while device.active:
        device.run()
    assert device.passes == [{"large": PASS}] * 10


def test_a_small_request_is_in_the_next_pass_and_large_passes_are_short_while_small_ones_come() -> None:
    device = Device()
    device.add("large", 50 * PASS)
    assert device.run() == {"large": PASS}
    for _ in range(5):
        device.add("small", 10)
        assert device.run() == {"small": 10, "large": 10}  # company of its size: no padding
        assert device.run() == {"large": BULK}
    while (taken := device.run()["large"]) == BULK:
        pass
    assert taken == PASS
    assert len(device.passes) < 50  # calm again


def test_small_requests_are_served_in_the_order_of_their_arrival() -> None:
    device = Device()
    device.add("large", 1000)
    for number in range(3):
        device.add(f"small {number}", 40)
    assert list(device.run()) == ["small 0", "small 1", "small 2", "large"]


@pytest.mark.parametrize("streams", [1, 3, 8])
def test_a_stream_of_small_requests_does_not_stop_a_large_one(streams: int) -> None:
    device = Device()
    large = device.add("large", 30_000)
    for index in range(400):
        for stream in range(streams - sum(not each.large for each in device.active)):
            device.add(f"{index} {stream}", BULK)
        device.run()
    tokens = sum(sum(taken.values()) for taken in device.passes)
    assert large.had >= tokens / (streams + 1) - 2 * BULK


def test_a_small_request_waits_a_pass_more_at_most_however_many_large_ones_are_owed() -> None:
    device = Device(past_of_small=1000)  # too much padding: the two share no pass
    for number in range(20):
        device.add(f"large {number}", 5000)
    waited = []
    for number in range(150):
        small, waits = device.add(f"small {number}", 20), 0
        while not small.had:
            device.run()
            waits += 1
        waited.append(waits)
    assert set(waited) == {1, 2}
    assert max(abs(each.owed) for each in device.active) <= 3 * BULK + 1
    shares = [each.had for each in device.active]
    assert max(shares) - min(shares) <= 2 * BULK


def test_large_requests_share_alike_whoever_came_first() -> None:
    device = Device()
    first = device.add("first", 30_000)
    for _ in range(5):
        device.run()
    others = [device.add(name, 30_000) for name in ("second", "third")]
    had = first.had
    for _ in range(90):
        device.run()
    shares = [first.had - had, *(each.had for each in others)]
    assert max(shares) - min(shares) <= 2 * PASS
    assert sum(shares) == 90 * PASS  # nothing small about: whole passes


def test_a_request_is_large_by_what_is_not_cached() -> None:
    device = Device()
    request = device.add("mostly cached", 10 * BULK)
    assert request.large
    request.to_compute = BULK
    device.turns.size(request)
    assert not request.large
