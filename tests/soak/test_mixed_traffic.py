"""A served ranker and a generator under all that clients do at once: every call answered or refused rightly.

Memory, open files and threads stay flat, and the end is good.

Its store is replaced, and its version swapped again and again, under the same traffic.

A moment in an ordinary run, ten minutes under `make test-full`.
"""

import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rankport.runtime.bundle.bundle import Bundle
from rankport.sdk import Client
from soak.books import assert_engine_books_balance, metric_sums, open_files, resident_bytes, threads_of
from soak.texts import Asked, Reader
from soak.traffic import Caller, Ledger, Question
from support.effort import FACTOR
from support.servers.serving import Command, serve
from support.servers.supervised import eventually

CALLERS, READERS = 6, 3
SECONDS = 4.0 if FACTOR == 1 else 30.0 * FACTOR
SWAP_S = 2.0 if FACTOR == 1 else 20.0
ALIAS = "ranker"
SETTLED = 0.3  # of the time, after which memory is to stay
GROWTH_BYTES = 24 * 2**20  # of a heap that is broken in
MORE_THREADS = 4  # of a pool, by chance
MORE_FILES = 4  # that are opened when they are needed first


@pytest.fixture
def command(mix_bundle: Bundle, generator_bundle: Bundle, store: Path) -> Iterator[Command]:
    limits = ("--max-pending-calls", "64", "--max-request-items", "1000", "--grace-s", "10")
    limits += ("--prefix-cache-bytes", "64KiB", "--score-cache", "64KiB", "--http-port", "0")
    roots = ("--model-root", mix_bundle.path.parent)
    models = (f"ranker={mix_bundle.path}", f"writer={generator_bundle.path}")
    with serve(*models, "--store", store, *roots, *limits) as command:
        yield command


def test_every_call_is_answered_or_refused_rightly(
    command: Command, questions: Sequence[Question], asked: Sequence[Asked], store: Path, mix_bundle: Bundle
) -> None:
    ledger, stop, files = Ledger(), threading.Event(), open_files(command.process.pid)
    callers = [
        *(Caller(command.address, questions, ledger, seed) for seed in range(CALLERS)),
        *(Reader(command.address, asked, ledger, seed) for seed in range(READERS)),
    ]
    threads = [threading.Thread(target=caller.run, args=(stop.is_set,)) for caller in callers]
    for thread in threads:
        thread.start()
    pid = command.process.pid
    begun, settled_bytes, settled_threads, swaps = time.monotonic(), 0, 0, 0
    with Client(command.address, timeout_s=60) as client:
        while (passed_s := time.monotonic() - begun) < SECONDS and all(
            thread.is_alive() for thread in threads
        ):
            if passed_s > swaps * SWAP_S:
                swaps += 1
                client.admin.load(str(mix_bundle.path), "ranker", f"s{swaps}", alias=ALIAS, replace=True)
            if not settled_bytes and passed_s > SECONDS * SETTLED:
                settled_bytes, settled_threads = resident_bytes(pid), threads_of(pid)
                replace_store(store)
            stop.wait(0.1)
        # Two versions are in memory while one takes the other's place.
        grown_bytes, more_threads = resident_bytes(pid) - settled_bytes, threads_of(pid) - settled_threads
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not ledger.wrong, ledger.wrong[:5]
    eventually(lambda: metric_sums(command.lines[-1]["http_address"])["rankport_active_requests"] == 0)
    assert_books_balance(command.lines[-1]["http_address"])
    assert ledger.counts["score: answered"] > 20
    assert swaps > 1
    assert ledger.counts["cancel: cancelled"] > 0
    assert ledger.counts["hurry: DeadlineExceeded"] > 0
    assert ledger.counts["too much: LimitExceeded"] > 0
    assert ledger.counts["text: answered"] > 5
    assert ledger.counts["left text: left"] > 0
    assert ledger.counts["hurried text: DeadlineExceeded"] > 0
    assert ledger.counts["too long a text: LimitExceeded"] > 0
    assert grown_bytes < GROWTH_BYTES, f"{grown_bytes / 2**20:.1f} MiB more, after {ledger.counts}"
    assert FACTOR == 1 or more_threads <= MORE_THREADS, f"{more_threads} threads more"
    eventually(lambda: open_files(pid) <= files + MORE_FILES)  # once connections have ended
    assert_good_end(command, ledger)


def assert_books_balance(http_address: str) -> None:
    """Reads the metrics of a server that nobody asks any more: nothing is left over, and caches hold what they may."""
    sums = metric_sums(http_address)
    assert_engine_books_balance(sums)
    # Entries that are not there any more were looked up in vain before they were put there.
    assert sums["rankport_score_cache_entries"] <= sums["rankport_score_cache_items_total miss"]
    assert 0 < sums["rankport_score_cache_bytes"] <= 64 * 2**10


_GIVEN_UP = ("cancel:", "hurry:", "left text:", "hurried text:")


def assert_good_end(command: Command, ledger: Ledger) -> None:
    """Stops the server, whose count of answers is the callers' own, but for those that were given up as they came."""
    command.process.send_signal(signal.SIGTERM)
    rest, _ = command.process.communicate(timeout=60)
    assert command.process.returncode == 0
    calls = json.loads(rest.splitlines()[-1])["calls"]
    answered = sum(count for kind, count in ledger.counts.items() if kind.endswith(": answered"))
    given_up = sum(count for kind, count in ledger.counts.items() if kind.startswith(_GIVEN_UP))
    assert answered <= calls["answered"] <= answered + given_up
    assert calls["backend"] == calls["other"] == 0


def replace_store(store: Path) -> None:
    """Puts an equal store in the place of the one that is read."""
    beside, old = store.with_name("beside.lmdb"), store.with_name("old.lmdb")
    shutil.copytree(store, beside)
    store.rename(old)
    beside.rename(store)
