"""Threads of passes beside each other: which have nothing to do, and their end."""

import threading

import pytest

from rankport.protos.errors import Unavailable
from rankport.runtime.scheduling.instances.pool import Instances

WAIT_S = 30.0


def test_those_that_compute_are_not_free() -> None:
    instances, opened = Instances(3), threading.Event()
    assert (instances.free, instances.most_under_way) == (3, 3)
    calls = [instances.submit(lambda: opened.wait(WAIT_S)) for _ in range(2)]
    assert instances.free == 1
    opened.set()
    assert all(call.result(WAIT_S) for call in calls)
    assert instances.free == 3
    instances.close()


def test_one_instance_is_the_thread_that_drives_the_device() -> None:
    one = Instances()
    assert not one.side_by_side
    assert (one.free, one.most_under_way) == (1, 2)  # a device is given the next pass while it is at one
    one.close()


def test_the_end_waits_for_calls_and_takes_no_more() -> None:
    instances, done = Instances(2), list[int]()
    begun, opened = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        assert opened.wait(WAIT_S)
        done.append(1)

    instances.submit(call)
    assert begun.wait(WAIT_S)
    threading.Timer(0.05, opened.set).start()
    instances.close()
    assert done == [1]
    with pytest.raises(Unavailable, match="the process ends"):
        instances.submit(call)
