"""Front processes under all that clients do at once, one killed, one halted: every call answered or refused rightly.

Half a minute a step of effort: ten minutes under `make test-full`. What dies is killed in every run by
`runtime/server/processes`.
"""

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.processes.supervisor import Supervisor
from rankport.sdk import Client
from soak.books import assert_engine_books_balance, metric_sums, resident_bytes
from soak.traffic import Caller, Ledger, Question
from support.effort import FACTOR, full_effort
from support.servers.supervised import eventually, supervised

CALLERS = 6
SECONDS, SWAP_S = 30.0 * FACTOR, 20.0
KILLED, SETTLED, HALTED = 0.2, 0.4, 0.6  # of the time
GROWTH_BYTES = 3 * 24 * 2**20  # of three heaps that are broken in


@full_effort
def test_every_call_is_answered_or_refused_rightly_though_a_front_dies_and_one_hangs(
    mix_bundle: Bundle, store: Path, questions: Sequence[Question]
) -> None:
    config = ServerConfig(
        port=0,
        http_port=0,
        fronts=2,
        grace_s=10.0,
        max_pending_calls=64,
        max_request_items=1000,
        model_roots=(str(mix_bundle.path.parent),),
        observing=ObservingConfig(hung_process_s=3.0),
    )
    ledger, stop = Ledger(), threading.Event()
    with supervised(f"ranker={mix_bundle.path}", config=config, store=store) as server:
        callers = [Caller(server.address, questions, ledger, seed) for seed in range(CALLERS)]
        threads = [threading.Thread(target=caller.run, args=(stop.is_set,)) for caller in callers]
        for thread in threads:
            thread.start()
        try:
            grown_bytes = watched(server, str(mix_bundle.path), threads)
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        assert not ledger.wrong, ledger.wrong[:5]
        assert ledger.counts["score: answered"] > 20
        assert ledger.counts["cancel: cancelled"] > 0
        assert ledger.counts["too much: LimitExceeded"] > 0
        eventually(lambda: metric_sums(server.http_address)["rankport_active_requests"] == 0)
        assert_engine_books_balance(metric_sums(server.http_address))
        assert grown_bytes < GROWTH_BYTES, f"{grown_bytes / 2**20:.1f} MiB more, after {ledger.counts}"


def watched(server: Supervisor, bundle: str, threads: Sequence[threading.Thread]) -> int:
    """Swaps versions, kills a front and halts one under the traffic. Returns the bytes that its processes grew by."""
    begun, swaps, killed, halted, settled_bytes = time.monotonic(), 0, 0, 0, 0
    with Client(server.address, timeout_s=60) as client:
        while (passed_s := time.monotonic() - begun) < SECONDS:
            assert all(thread.is_alive() for thread in threads)
            if not killed and passed_s > SECONDS * KILLED:
                killed = replaced_front(server, 0, signal.SIGKILL)
            if not halted and passed_s > SECONDS * HALTED:
                halted = replaced_front(server, 1, signal.SIGSTOP)
            if passed_s > swaps * SWAP_S:
                swaps += 1
                client.admin.load(bundle, "ranker", f"s{swaps}", alias="ranker", replace=True)
            if not settled_bytes and passed_s > SECONDS * SETTLED:
                settled_bytes = resident_bytes(*server.front_pids, *server.engine_pids)
            threading.Event().wait(0.1)
    assert killed
    assert halted
    return resident_bytes(*server.front_pids, *server.engine_pids) - settled_bytes


def replaced_front(server: Supervisor, index: int, by: signal.Signals) -> int:
    """Sends a front a signal, and waits until another has its place. Returns its number."""
    before = server.front_pids[index]
    os.kill(before, by)
    eventually(lambda: server.front_pids[index] != before and server.all_answer)
    return before
