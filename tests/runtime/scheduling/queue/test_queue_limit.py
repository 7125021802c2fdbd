"""Verdicts of a queue on requests that nobody has read yet, here and to another process."""

from dataclasses import replace

import pytest

from rankport.protos.errors import Overloaded
from rankport.protos.priorities import PRIORITIES, Priority
from rankport.runtime.config import EngineConfig
from rankport.runtime.scheduling.queue.queue_limit import QueueLimit, QueueNumbers
from support.engines import Sized

CONFIG = EngineConfig(max_queued_requests=4, max_queued_tokens=100, max_queue_s=5.0)


def queued(config: EngineConfig, *tokens: int, of: Priority = "interactive") -> QueueLimit:
    queue = QueueLimit(config)
    for number in tokens:
        queue.enter(Sized.of("request", number, of))
    return queue


def refuses(queue: QueueLimit, left_s: float | None = None, of: Priority = "interactive") -> str:
    """Says why an unread request is refused; "" if it is not."""
    try:
        queue.check_unread(left_s, of)
    except Overloaded as error:
        return str(error)
    return ""


def test_a_queue_that_knows_no_sizes_refuses_nothing_unread() -> None:
    assert not refuses(queued(CONFIG))
    assert not refuses(queued(CONFIG, 1, 1, of="background"))


def test_no_place_is_left_whatever_the_size() -> None:
    queue = queued(CONFIG, 1, 1, 1, 1)
    assert "the queue is full: 4 requests (max_queued_requests 4)" in refuses(queue)
    queue.leave(Sized.of("request", 1, "interactive"))
    assert not refuses(queue)


def test_a_request_as_small_as_any_of_late_decides() -> None:
    assert not refuses(queued(CONFIG, 60, 20))
    queue = queued(CONFIG, 40, 40)
    assert "100) wait, and the smallest of late had 40 tokens" in refuses(queue)
    queue = queued(CONFIG, 10, 40, 40)
    assert not refuses(queue)
    for _ in range(64):  # the small one was long ago
        with pytest.raises(Overloaded):
            queue.enter(Sized.of("request", 40, "interactive"))
    assert "the smallest of late had 40 tokens" in refuses(queue)


def test_a_class_is_judged_by_its_own_sizes_and_room() -> None:
    queue = queued(CONFIG, 20, 20, of="background")
    assert "half of it, for requests in the background" in refuses(queue, of="background")
    assert not refuses(queue)
    queue.enter(Sized.of("request", 50, "interactive"))
    assert "wait, and the smallest of late had 50 tokens" in refuses(queue)


def experienced(config: EngineConfig) -> QueueLimit:
    """Makes a queue of one request of 40 tokens, whose engine computes 10 a second."""
    queue = queued(config, 40)
    queue.end(Sized.of("request", 40, "interactive"), answered=True, busy_s=4.0)
    queue.leave(Sized.of("request", 40, "interactive"))
    queue.enter(Sized.of("request", 40, "interactive"))
    return queue


def test_time_that_is_too_short_is_told_before_the_message_too() -> None:
    queue = experienced(replace(CONFIG, max_queue_s=None))
    assert not refuses(queue)
    assert not refuses(queue, 10.0)
    assert "requests before this one take about 8.0 s" in refuses(queue, 9.0)
    assert "the limit is 5 s (max_queue_s)" in refuses(experienced(CONFIG))


@pytest.mark.parametrize("tokens", [(), (40, 40), (1, 1, 1, 1), (10, 40, 40)])
@pytest.mark.parametrize("of", PRIORITIES)
def test_another_process_says_the_same_by_the_numbers_alone(tokens: tuple[int, ...], of: Priority) -> None:
    queue = experienced(CONFIG)
    told: list[QueueNumbers] = []
    unwatch = queue.watch(told.append)
    for number in tokens:
        try:
            queue.enter(Sized.of("request", number, of))
        except Overloaded:
            continue
        other = QueueLimit(CONFIG)
        other.take(told[-1])
        assert [refuses(other, left_s, each) for left_s in (None, 9.0) for each in PRIORITIES] == [
            refuses(queue, left_s, each) for left_s in (None, 9.0) for each in PRIORITIES
        ]
    assert told[-1] == queue.numbers()
    unwatch()
    queue.leave(Sized.of("request", 40, "interactive"))
    assert told[-1] != queue.numbers()
