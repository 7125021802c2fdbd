"""Copies to a snapshot that are killed, or run out of disk: nothing half made is seen, a rerun is whole."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.effort import scale
from support.token_samples import ENCODER

TESTS = Path(__file__).parents[2]  # from where `support` is imported
ITEMS = 5000
SPEC = TokenSpec(1, 64, "float16")
ROUNDS = scale(2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in LMDB."""
    path = tmp_path_factory.mktemp("source") / "tokens"
    tokens = np.random.default_rng(0).normal(size=(ITEMS, 1, 64)).astype(np.float16)
    with open_store(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many(
            [TokenEntry(str(number), row, number.to_bytes(16, "big")) for number, row in enumerate(tokens)]
        )
    return path


def command(source: Path, target: Path, *limits: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "support.jobs.copy_worker",
        str(source),
        str(target),
        ENCODER,
        *map(str, limits),
    ]


def finish(source: Path, target: Path) -> list[str]:
    done = subprocess.run(
        command(source, target),
        cwd=TESTS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1].split()


def assert_equal(source: Path, target: Path) -> None:
    with open_store(source, read_only=True) as one, open_store(target, read_only=True) as other:
        before, after = one.namespace(ENCODER), other.namespace(ENCODER)
        keys = sorted(before.keys())
        assert sorted(after.keys()) == keys
        np.testing.assert_array_equal(after.read(keys).tokens, before.read(keys).tokens)
        assert after.info_many(keys) == before.info_many(keys)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_copy_shows_nothing_and_the_next_one_is_whole(source: Path, tmp_path: Path, seed: int) -> None:
    chance, target = random.Random(seed), tmp_path / "snapshot"
    with subprocess.Popen(
        command(source, target), cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write("\n" * 11)  # five steps of copying, the index, five of comparing
        worker.stdin.flush()
        for _ in range(chance.randint(1, 10)):
            worker.stdout.readline()
        until = time.perf_counter() + chance.uniform(0, 0.02)
        while time.perf_counter() < until:
            pass
        worker.kill()
    if worker.returncode == -signal.SIGKILL and not list(target.glob("*.tokens")):
        with pytest.raises(StoreError, match="no token store at"):
            open_store(target, read_only=True)
    said, written, unchanged = finish(source, target)
    assert (said, int(written) + int(unchanged)) == ("done", ITEMS)
    assert [path.name for path in target.iterdir()] == [f"{ENCODER}.tokens"]
    assert_equal(source, target)


def test_full_disk_is_told_and_the_next_copy_goes_on(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "snapshot"
    full = subprocess.run(
        command(source, target, 400_000),
        cwd=TESTS,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert full.returncode == 1
    assert "cannot be written: File too large; what is staged in" in full.stderr
    _, written, unchanged = finish(source, target)
    assert (int(written), int(unchanged)) == (2000, 3000)
    assert_equal(source, target)
