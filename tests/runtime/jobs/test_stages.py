"""Stages beside the encoder: who waits for what does not come may go."""

import threading
from collections.abc import Iterator

import pytest

from rankport.runtime.jobs.stages import read_ahead


class LeftError(Exception):
    """End of a wait."""


def test_who_waits_for_what_does_not_come_may_go() -> None:
    came = threading.Event()

    def values() -> Iterator[int]:
        yield 1
        assert came.wait(60.0)
        yield 2

    def waiting() -> None:
        came.set()
        raise LeftError

    reading = read_ahead(values(), 1, waiting)
    assert next(reading) == 1
    with pytest.raises(LeftError):
        next(reading)
    assert not [thread for thread in threading.enumerate() if thread.name == "rankport-read"]
