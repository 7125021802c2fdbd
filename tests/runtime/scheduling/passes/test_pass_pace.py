"""The pace of passes: as many tokens as take the time that requests may share, no fewer than fill a processor."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import Started
from rankport.runtime.scheduling.passes.pass_pace import PassPace
from support.engines import Clock


class Device:
    """Passes that take as long as they are told to."""

    def __init__(self, max_shared_pass_s: float = 0.1) -> None:
        self.clock = Clock()
        self.pace = PassPace(max_shared_pass_s, self.clock)

    def run(self, tokens: int, seconds: float, *, done: bool = True) -> None:
        def start() -> Started[np.float32]:
            self.clock.now_s += seconds
            return Started(_nothing, done)

        assert self.pace.timed(start, tokens).done is done


def _nothing() -> NDArray[np.float32]:
    return np.empty(0, np.float32)


def test_as_many_tokens_are_enough_as_take_the_time() -> None:
    device = Device(max_shared_pass_s=0.1)
    assert device.pace.enough_tokens is None  # nothing is known yet
    device.run(1000, 0.125)
    assert device.pace.enough_tokens == 800
    device.run(1000, 0.375)
    assert device.pace.enough_tokens == 400


def test_a_pass_is_shared_until_it_fills_a_processor_however_slow_that_is() -> None:
    device = Device(max_shared_pass_s=0.1)
    device.run(1000, 64.0)
    assert device.pace.enough_tokens == 256


def test_what_a_device_does_while_it_is_not_called_says_nothing() -> None:
    device = Device()
    device.run(1000, 0.125, done=False)
    assert device.pace.enough_tokens is None


def test_a_pass_that_fails_says_nothing() -> None:
    device = Device()

    def fail() -> Started[np.float32]:
        device.clock.now_s += 1.0
        raise BackendError("out of memory")

    with pytest.raises(BackendError, match="out of memory"):
        device.pace.timed(fail, 1000)
    assert device.pace.enough_tokens is None


def test_a_new_pace_is_learned() -> None:
    device = Device(max_shared_pass_s=0.1)
    for _ in range(100):
        device.run(1000, 0.5)
    assert device.pace.enough_tokens == 256
    for _ in range(1000):
        device.run(1000, 0.0625)
    assert device.pace.enough_tokens == pytest.approx(1600, rel=0.01)
