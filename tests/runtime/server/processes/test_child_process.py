"""Orders to a child that ends."""

import errno
import mmap
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rankport.protos.errors import Unavailable
from rankport.runtime.config import EngineConfig
from rankport.runtime.server.lifecycle.orders import UnloadOrder
from rankport.runtime.server.processes import child_process
from rankport.runtime.server.processes.child_process import ChildProcess
from rankport.runtime.server.processes.control import EngineOrders, Logging, Stopped
from rankport.runtime.server.processes.slot import Slot
from support.engines import WAIT_S
from support.open_memory import shared_memory_open

T = TypeVar("T")


def _engine_orders() -> EngineOrders:
    return EngineOrders("", EngineConfig(), None, False, 0.0, None, Logging(False, "engine 0"))


def test_a_child_whose_pulse_cannot_be_had_leaves_no_memory_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    had = shared_memory_open()
    for module, call in ((mmap, "mmap"), (os, "ftruncate")):
        with monkeypatch.context() as patched:
            patched.setattr(module, call, fails)
            with pytest.raises(OSError, match="Too many open files"):
                ChildProcess(_engine_orders(), lambda child, asked: None)
    assert shared_memory_open() == had


LINGERS = """\
import sys, threading
from multiprocessing.connection import Connection
from rankport.runtime.server.processes.control import Started, Stopped
channel = Connection(int(sys.argv[-3]))
channel.recv()
channel.send(Started())
channel.recv()
channel.send(Stopped({"answered": 7}))
threading.Event().wait()
"""


def test_a_child_that_said_to_have_stopped_and_does_not_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "lingers"
    program.write_text(f"#!{sys.executable}\n{LINGERS}")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    slot = Slot(_engine_orders())
    slot.wait_until_started()
    slot.ask_to_stop(0.0)
    slot.child.stopped(WAIT_S)
    with ThreadPoolExecutor(1) as waiting:
        try:
            assert waiting.submit(slot.stopped, 0.1).result(WAIT_S).calls == {"answered": 7}
        finally:
            slot.kill()
    assert slot.child.ended


def test_a_child_that_answers_nobody_yet_is_ended_at_once() -> None:
    slot = Slot(_engine_orders())
    slot.ask_to_stop(None)
    assert slot.stopped(WAIT_S) == Stopped({})
    assert slot.child.wait(WAIT_S) == -signal.SIGKILL


def test_an_order_that_meets_the_end_of_its_child_is_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has stopped as the order is sent, and whoever waits for its end answers before the sender can."""
    asked, polls = threading.Event(), subprocess.Popen.poll

    class Ending(Future[T]):
        def set_result(self, result: T) -> None:
            super().set_result(result)
            if isinstance(result, Stopped):
                assert asked.wait(WAIT_S)

    def poll(process: "subprocess.Popen[Any]") -> int | None:
        if threading.current_thread() is threading.main_thread() and not asked.is_set():
            asked.set()
            child.wait()
        return polls(process)

    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    monkeypatch.setattr(child_process, "Future", Ending)
    child = ChildProcess(_engine_orders(), lambda child, asked: None)
    child.stopped(WAIT_S)
    monkeypatch.setattr(subprocess.Popen, "poll", poll)
    gone = child.take(UnloadOrder("jobs@1")).result(0.0)
    assert isinstance(gone, Unavailable)
