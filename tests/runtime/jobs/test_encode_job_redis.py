"""kill -9 of an encode process that writes to Redis, and of Redis under it: nothing lost, twice or different."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.store.lmdb_store.store import LmdbStore
from rankport.runtime.store.opening import open_store
from support.effort import scale
from support.hash_encoder import HashEncoder
from support.jobs.encode_jobs import stored
from support.jobs.encode_worker import CONFIG
from support.servers.redis_server import redis_server

ROWS, BATCH = 240, 8
TESTS = Path(__file__).parents[2]  # from where `support` is imported


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    items = [ItemRow(n, f"item-{n}", f"{'x' * (n * 13 % 37)} {n}") for n in range(ROWS)]
    encoder = HashEncoder(padding_matters=True)
    with LmdbStore.open(tmp_path_factory.mktemp("undisturbed") / "store", create=True) as store:
        namespace = namespace_of(store, encoder)
        run_encode_job(encoder, namespace, items, CONFIG)
        return stored(namespace)


@pytest.mark.parametrize("seed", range(scale(1)))
def test_killed_job_and_restarted_redis_end_as_an_undisturbed_run(
    tmp_path: Path, undisturbed: dict[str, bytes], seed: int
) -> None:
    chance = random.Random(seed)
    with redis_server(tmp_path) as server:
        command = [sys.executable, "-m", "support.jobs.encode_worker", server.url, str(ROWS)]
        with subprocess.Popen(
            command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write("\n" * (ROWS // BATCH))
            worker.stdin.flush()
            told = [int(worker.stdout.readline()) for _ in range(chance.randint(2, 12))][-1]
            worker.kill()
        assert worker.returncode == -signal.SIGKILL
        server.kill()
        server.start()
        with open_store(server.url, read_only=True) as store:
            survived = stored(store.namespace("hash-encoder"))
        assert told <= len(survived)
        assert len(survived) % BATCH == 0
        assert survived.items() <= undisturbed.items()
        with subprocess.Popen(
            command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as again:
            assert again.stdin is not None
            assert again.stdout is not None
            again.stdout.readline()
            again.stdout.readline()
            server.kill()  # under the job, which waits for it
            again.stdin.close()
            server.start()
            said = again.stdout.read().splitlines()
        encoded, unchanged = map(int, said[-1].split())
        assert encoded + unchanged == ROWS
        assert unchanged == len(survived)
        with open_store(server.url, read_only=True) as store:
            assert stored(store.namespace("hash-encoder")) == undisturbed


def test_items_that_a_job_finds_unchanged_live_as_long_as_those_that_it_writes(tmp_path: Path) -> None:
    encoder, rows = HashEncoder(), [ItemRow(1, "a", "text")]
    with (
        redis_server(tmp_path) as server,
        open_store(f"{server.url}?ttl=7d", create=True) as store,
        server.client() as client,
    ):
        run_encode_job(encoder, namespace_of(store, encoder), rows)
        [key] = client.keys("rankport:t:*")
        client.expire(key, 60)
        assert run_encode_job(encoder, namespace_of(store, encoder), rows).unchanged == 1
        assert client.ttl(key) > 6 * 86_400
