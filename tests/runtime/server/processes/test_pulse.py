"""Signs of life between two processes, and the silence that one who looks counts."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rankport.runtime.server.processes.activity import Activity
from rankport.runtime.server.processes.pulse import BEAT_S, Pulse, Silence
from support.engines import Clock
from support.servers.supervised import eventually, halt


def test_each_end_hears_the_beats_of_the_other_alone() -> None:
    fd = Pulse.memory()
    child, supervisor = Pulse(fd, of_child=True), Pulse(fd, of_child=False)
    os.close(fd)
    child.beat()
    child.beat()
    supervisor.beat()
    assert (supervisor.heard(), child.heard()) == (2, 1)


def test_silence_is_counted_in_looks_and_ends_with_a_beat() -> None:
    clock = Clock()
    silence = Silence(clock)
    for _ in range(8):
        clock.now_s += BEAT_S
        silence.look(0)
    assert silence.seconds == pytest.approx(8 * BEAT_S)
    assert silence.look(1) == 0.0
    clock.now_s += BEAT_S
    assert silence.look(1) == pytest.approx(BEAT_S)


def test_who_was_halted_itself_has_not_looked_meanwhile() -> None:
    clock = Clock()
    silence = Silence(clock)
    clock.now_s += 3600.0
    assert silence.look(0) == 2 * BEAT_S


def test_time_that_does_not_count_is_none() -> None:
    clock = Clock()
    silence = Silence(clock)
    clock.now_s += BEAT_S
    assert silence.look(0, lambda elapsed_s: elapsed_s / 5) == pytest.approx(BEAT_S / 5)


@pytest.fixture
def worker() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that waits for a line, and works for ever then."""
    command = [sys.executable, "-c", "input()\nwhile True: pass"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_that_waits_or_is_halted_could_have_done_all_and_one_that_works_what_it_did(
    worker: "subprocess.Popen[bytes]",
) -> None:
    activity = Activity(worker.pid)
    eventually(lambda: activity.idle_s(1.0) == 1.0)
    assert activity.able_s(1.0) == 1.0
    assert worker.stdin is not None
    worker.stdin.write(b"\n")
    worker.stdin.flush()
    eventually(lambda: activity.idle_s(1.0) == 0.0)
    eventually(lambda: 0.0 < activity.able_s(3600.0) < 3600.0)  # of an hour, what it had of a core
    halt(worker.pid)
    assert activity.idle_s(1.0) == activity.able_s(1.0) == 1.0
    worker.send_signal(signal.SIGCONT)


def test_a_process_of_which_nothing_is_told_could_have_done_all() -> None:
    assert Activity(2**30).idle_s(1.0) == Activity(2**30).able_s(1.0) == 1.0
