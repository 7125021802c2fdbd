"""Large bodies are read in threads without the collector, which is as it was behind the last of them."""

import asyncio
import gc
import threading

import pytest

from rankport.runtime.server.http.apart import Pause, apart


def seen() -> tuple[int, bool]:
    return threading.get_ident(), gc.isenabled()


def test_a_large_body_is_read_by_a_thread_and_a_small_one_at_once() -> None:
    (small, collects), (large, collects_there) = (asyncio.run(apart(size, seen)) for size in (100, 2**20))
    assert (small == threading.get_ident(), collects) == (True, True)
    assert (large == threading.get_ident(), collects_there) == (False, False)
    assert gc.isenabled()


def test_the_collector_goes_on_once_the_last_is_read_or_fails() -> None:
    both, first_left = threading.Barrier(2), threading.Event()

    def fails() -> None:
        both.wait(10)
        raise ValueError("no JSON")

    def waits() -> bool:
        both.wait(10)
        assert first_left.wait(10)
        return gc.isenabled()

    async def go() -> bool:
        second = asyncio.create_task(apart(2**20, waits))
        with pytest.raises(ValueError, match="no JSON"):
            await apart(2**20, fails)
        first_left.set()
        return await second

    assert not asyncio.run(go())
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        assert asyncio.run(apart(2**20, seen))[1] is False
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_paused_for_as_long_as_large_ones_overlap_but_not_for_ever() -> None:
    assert gc.isenabled()
    pause = Pause(longest_s=3600)
    with pause, pause:
        assert not gc.isenabled()
    assert gc.isenabled()
    endless = Pause(longest_s=-1)
    with endless:
        assert not gc.isenabled()
        with endless:
            assert gc.isenabled()
        assert gc.isenabled()
    assert gc.isenabled()
