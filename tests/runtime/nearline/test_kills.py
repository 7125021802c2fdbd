"""Consumers killed and Redis restarted in the midst: at the end each item stands once, with its newest content."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankport.runtime.store.opening import open_store
from support.effort import every_run, scale
from support.hash_encoder import HashEncoder
from support.jobs.encode_jobs import stored
from support.servers.redis_server import RedisServer, redis_server

TESTS = Path(__file__).parents[2]  # from where `support` is imported
ITEMS, CHANGES = 40, 240
DONE_S = 60.0


def start(server: RedisServer, store: str, name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "support.jobs.nearline_worker", server.url, store, name]
    return subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True)


def consuming(worker: "subprocess.Popen[str]") -> None:
    assert worker.stdout is not None
    assert worker.stdout.readline() == "consuming\n"


def add_changes(server: RedisServer, chance: random.Random) -> dict[str, bytes]:
    """Adds changes out of order, some twice; returns the tokens that must stand in the end."""
    changes = [(f"i{chance.randrange(ITEMS)}", version) for version in range(CHANGES)]
    newest: dict[str, str | None] = {}
    entries = []
    for item, version in changes:
        text = None if chance.random() < 0.1 else f"{item} {version}"
        newest[item] = text
        about = {"id": item, "version": version}
        entries.append(about | ({"op": "delete"} if text is None else {"text": text}))
    entries += chance.sample(entries, 20)
    order = sorted(range(len(entries)), key=lambda place: place + chance.uniform(0, 30))
    with server.client() as client, client.pipeline() as pipeline:
        for place in order:
            pipeline.xadd("items", entries[place])  # type: ignore[arg-type]
        pipeline.execute()
    texts = {item: text for item, text in newest.items() if text is not None}
    return {item: HashEncoder().encode([text])[0].tobytes() for item, text in texts.items()}


def pause(server: RedisServer, seconds: float) -> None:
    """Lets the consumers work: waits at the server for what never comes."""
    with server.client() as client:
        client.blpop(["nothing"], seconds)


def done(server: RedisServer) -> bool:
    with server.client() as client:
        [group] = client.xinfo_groups("items")
        [(last, _)] = client.xrevrange("items", count=1)
        return bool(group["pending"] == 0 and group["last-delivered-id"] == last)


@pytest.mark.parametrize("seed", range(scale(1)))
@pytest.mark.parametrize("kind", every_run(["lmdb", "redis"], ["redis"]))
def test_killed_consumers_and_a_restarted_redis_lose_nothing(tmp_path: Path, kind: str, seed: int) -> None:
    chance = random.Random(seed)
    with redis_server(tmp_path) as server:
        store = str(tmp_path / "store") if kind == "lmdb" else server.url
        with server.client() as client:
            client.xgroup_create("items", "g", "0", mkstream=True)
        workers = [start(server, store, name) for name in ("first", "second", "third")]
        for worker in workers[:2]:
            consuming(worker)
        expected = add_changes(server, chance)
        pause(server, chance.uniform(0.01, 0.1))
        workers[0].kill()
        server.kill()
        server.start()
        until = time.monotonic() + DONE_S
        while not done(server):
            assert time.monotonic() < until
            pause(server, 0.05)
        for worker in workers[1:]:
            worker.terminate()
            assert worker.wait() == 0
        for worker in workers:
            worker.communicate()
        with open_store(store) as tokens:
            namespace = tokens.namespace("hash-encoder")
            assert stored(namespace) == expected
            assert len(namespace) == len(expected)
        with server.client() as client:
            assert client.exists("{items}:g:dead") == 0
