"""kill -9 of a real encode process: what is stored is whole batches, and a rerun ends as an undisturbed run."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankport.runtime.store.opening import open_store
from support.effort import scale

ROWS = 600
BATCH = 8
TESTS = Path(__file__).parents[2]  # from where `support` is imported
KILLS = scale(3)

Contents = dict[str, tuple[bytes, bytes]]  # key -> content hash, tokens


def command(store: Path) -> list[str]:
    return [sys.executable, "-m", "support.jobs.encode_worker", str(store), str(ROWS)]


def finish(store: Path) -> tuple[int, int]:
    """Runs to the end; rows encoded and unchanged."""
    done = subprocess.run(
        command(store), cwd=TESTS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True
    )
    encoded, unchanged = done.stdout.splitlines()[-1].split()
    return int(encoded), int(unchanged)


def contents(path: Path) -> Contents:
    with open_store(path, create=True) as store:
        if not store.fingerprints():
            return {}
        namespace = store.namespace("hash-encoder")
        keys = list(namespace.keys())
        pairs = zip(namespace.content_hashes(keys), namespace.get_many(keys), strict=True)
        found = [(digest, tokens.tobytes()) for digest, tokens in pairs if digest and tokens is not None]
        assert len(found) == len(namespace) == len(set(keys))
        return dict(zip(keys, found, strict=True))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    path = tmp_path_factory.mktemp("undisturbed") / "store"
    assert finish(path) == (ROWS, 0)
    return contents(path)


def kill_at_random(path: Path, chance: random.Random, max_batches: int) -> int:
    """Kills a run between its start and `max_batches` batches later; the rows it had told to be stored."""
    with subprocess.Popen(
        command(path), cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write("\n" * max_batches)
        worker.stdin.flush()
        told = [int(worker.stdout.readline()) for _ in range(chance.randint(1, max_batches))]
        # Into the midst of a batch or its transaction, not always right behind one.
        until = time.perf_counter() + chance.uniform(0, 0.01)
        while time.perf_counter() < until:
            pass
        worker.kill()
    assert worker.returncode == -signal.SIGKILL
    return told[-1]


@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_job_loses_nothing_and_its_rerun_equals_an_undisturbed_one(
    tmp_path: Path, undisturbed: Contents, seed: int
) -> None:
    path = tmp_path / "store"
    told = kill_at_random(path, random.Random(seed), max_batches=ROWS // BATCH - 2)
    survived = contents(path)
    assert told <= len(survived) < ROWS
    assert len(survived) % BATCH == 0
    assert survived.items() <= undisturbed.items()
    assert finish(path) == (ROWS - len(survived), len(survived))
    assert contents(path) == undisturbed


def test_job_killed_again_and_again_from_its_creation_on_ends_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: Contents
) -> None:
    path = tmp_path / "store"
    chance = random.Random(7)
    for max_batches in (1, 1, 5, 10):
        kill_at_random(path, chance, max_batches)
        assert contents(path).items() <= undisturbed.items()
    finish(path)
    assert contents(path) == undisturbed
