"""Processes that hang, halted by a signal: each is found by its silence, ended, and another takes its place."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.processes.supervisor import Supervisor
from rankport.sdk import Client
from support.effort import full_effort
from support.servers.callers import callers, ended
from support.servers.http import ask
from support.servers.serving import serve
from support.servers.supervised import children, eventually, halt, supervised
from support.servers.supervised import restarts as restarts_of

ITEMS = ["nurse", "welder", "chief cook"]
HUNG_S = 2.0


@pytest.fixture(scope="module")
def watched(mix_bundle: Bundle) -> Iterator[Supervisor]:
    observing = ObservingConfig(hung_process_s=HUNG_S)
    config = ServerConfig(port=0, http_port=0, fronts=2, grace_s=5.0, observing=observing)
    with supervised(f"mix={mix_bundle.path}", config=config) as running:
        yield running


def whole(server: Supervisor) -> None:
    """Waits until all processes are there, and connections to either front are answered."""

    def answered() -> bool:
        with callers(server.address, 6) as calling:
            return all(ended(call).code is grpc.StatusCode.OK for call in calling.begin(ITEMS))

    eventually(lambda: server.all_answer and answered())


def test_a_front_that_hangs_is_ended_and_its_calls_are_told_to_come_again(
    watched: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    before = restarts_of(watched)
    hanging, other = watched.front_pids
    with callers(watched.address, 16) as calling:
        halt(hanging)
        outcomes = [ended(call) for call in calling.begin(ITEMS, timeout_s=60.0)]
    codes = {outcome.code for outcome in outcomes}
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    eventually(lambda: watched.front_pids[0] != hanging)
    whole(watched)
    assert watched.front_pids[0] != hanging
    assert watched.front_pids[1] == other
    assert f"front 0 (process {hanging}) gave no sign of life for 2 s (hung_process_s)" in caplog.text
    after = restarts_of(watched)
    assert after.pop(("front 0", "hung")) == before.pop(("front 0", "hung")) + 1
    assert after == before


def test_an_engine_that_hangs_is_ended_and_its_calls_are_told_to_come_again(watched: Supervisor) -> None:
    before = restarts_of(watched)
    hanging, fronts = watched.engine_pids[0], watched.front_pids
    with callers(watched.address, 8) as calling:
        halt(hanging)
        outcomes = [ended(call) for call in calling.begin(ITEMS, timeout_s=60.0)]
    assert {outcome.code for outcome in outcomes} == {grpc.StatusCode.UNAVAILABLE}
    eventually(lambda: watched.engine_pids[0] != hanging)
    whole(watched)
    assert watched.engine_pids[0] != hanging
    assert watched.front_pids == fronts
    assert restarts_of(watched)["engine 0", "hung"] == before["engine 0", "hung"] + 1


def test_a_client_that_retries_is_answered_though_its_front_hangs(watched: Supervisor) -> None:
    with Client(watched.address, "mix", timeout_s=60) as client:
        for index in range(2):  # one of them is its own
            whole(watched)
            client.score("head nurse", ITEMS)
            hanging = watched.front_pids[index]
            halt(hanging)
            assert len(client.score("head nurse", ITEMS).scores) == len(ITEMS)
            eventually(lambda: watched.front_pids[index] != hanging)  # noqa: B023
    whole(watched)


def test_what_hangs_while_it_stops_does_not_keep_the_others(mix_bundle: Bundle) -> None:
    settings = ("--fronts", 2, "--hung-process-s", HUNG_S, "--grace-s", 300)
    with serve(f"mix={mix_bundle.path}", *settings) as command:
        pid = command.process.pid
        halt(children(pid)["front 1"])
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(60) == 0


@full_effort
def test_processes_that_were_halted_all_together_go_on(mix_bundle: Bundle) -> None:
    """Processes as of a machine that was suspended, or of a container that was frozen."""
    with serve(f"mix={mix_bundle.path}", "--fronts", 1, "--hung-process-s", HUNG_S) as command:
        pid = command.process.pid
        pids = children(pid)
        for each in (*pids.values(), pid):
            halt(each)
        threading.Event().wait(2 * HUNG_S)
        for each in (
            pid,
            *pids.values(),
        ):  # who looks first finds the others silent, and has not looked meanwhile
            os.kill(each, signal.SIGCONT)
            threading.Event().wait(HUNG_S / 4)
        threading.Event().wait(HUNG_S)
        assert children(pid) == pids
        with Client(command.address, "mix", timeout_s=30) as client:
            assert len(client.score("head nurse", ITEMS).scores) == len(ITEMS)


def test_fronts_whose_supervisor_hangs_answer_and_are_not_live(mix_bundle: Bundle) -> None:
    settings = ("--fronts", 1, "--hung-process-s", HUNG_S, "--http-port", 0)
    with serve(f"mix={mix_bundle.path}", *settings) as command:
        address = str(command.lines[-1]["http_address"])
        assert ask(address, "/health/live").status == 200
        halt(command.process.pid)
        eventually(lambda: ask(address, "/health/live").status == 503)
        assert ask(address, "/health/ready").status == 200
        with Client(command.address, "mix", timeout_s=30) as client:
            assert len(client.score("head nurse", ITEMS).scores) == len(ITEMS)
        command.process.send_signal(signal.SIGCONT)
        eventually(lambda: ask(address, "/health/live").status == 200)


@full_effort
def test_a_machine_with_twenty_times_the_work_is_no_reason(mix_bundle: Bundle) -> None:
    """Whoever waits for a core does not hang: the server stands behind all the others."""
    with (
        serve(f"mix={mix_bundle.path}", "--fronts", 2, "--hung-process-s", HUNG_S) as command,
        ExitStack() as stack,
    ):
        pids = children(command.process.pid)
        for thread in (thread for pid in pids.values() for thread in os.listdir(f"/proc/{pid}/task")):
            os.setpriority(os.PRIO_PROCESS, int(thread), 10)
        for _ in range(20 * len(os.sched_getaffinity(0))):
            other = stack.enter_context(subprocess.Popen(["sh", "-c", "while :; do :; done"]))
            stack.callback(other.kill)
        threading.Event().wait(10 * HUNG_S)
        assert children(command.process.pid) == pids
