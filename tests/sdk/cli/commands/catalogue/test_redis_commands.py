"""Commands over a real Redis: encode, score and serve on a store in it, and nearline as processes that are killed."""

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import redis

from rankport.protos.errors import StoreError
from rankport.protos.types import ItemStatus, Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.store.opening import open_store
from rankport.sdk import Client
from support.cli import rankport
from support.servers.deterministic_models import DeterministicEncoder
from support.servers.redis_server import RedisServer, free_port, redis_server
from support.servers.serving import RANKPORT, serve, serving
from support.token_samples import SPEC, entry

T = TypeVar("T")
TEXTS = {f"i{number}": f"senior nurse {number}" for number in range(40)}
DONE_S = 120.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of TCP, with nothing in it."""
    with redis_server(tmp_path, port=free_port()) as server:
        yield server


def check_stored(server: RedisServer, encoder: ItemEncoder | DeterministicEncoder) -> None:
    """Each item stands once, with its tokens."""
    with open_store(server.url, read_only=True) as store:
        namespace = store.namespace(encoder.fingerprint)
        assert sorted(namespace.keys()) == sorted(TEXTS)
        made = encoder.encode(list(TEXTS.values()))
        np.testing.assert_allclose(namespace.read(list(TEXTS)).tokens, made, atol=1e-3)


def test_no_command_shows_the_password_of_a_store(server: RedisServer, tmp_path: Path) -> None:
    server.client().config_set("requirepass", "secret")
    url = f"redis://:secret@127.0.0.1:{server.port}/0"
    with open_store(url, create=True) as store:
        store.namespace("e" * 64, SPEC, create=True).put_many([entry("a"), entry("b")])
    lines = [
        rankport("store", "inspect", url, "--check"),
        rankport("store", "copy", url, str(tmp_path / "hot.snapshot")),
        rankport("store", "diff", url, str(tmp_path / "hot.snapshot")),
        rankport("store", "copy", str(tmp_path / "hot.snapshot"), f"{url}?prefix=other"),
        rankport("store", "drop", "e" * 64, "--store", f"{url}?prefix=other"),
    ]
    scanned = f"redis://:***@127.0.0.1:{server.port}/0: counts items by a scan of all keys of the database\n"
    assert [(done.returncode, done.stderr) for done in lines] == [(0, scanned), *[(0, "")] * 4]
    assert lines[-1].stdout.endswith("2 items of encoder " + "e" * 64 + " are dropped\n")
    assert not any("secret" in done.stdout for done in lines)


def test_a_store_in_redis_is_encoded_scored_and_served_over_its_restart(
    server: RedisServer, encoder_bundle: Bundle, mix_bundle: Bundle, tmp_path: Path
) -> None:
    items = tmp_path / "items.csv"
    items.write_text("id,text\n" + "".join(f"{id},{text}\n" for id, text in TEXTS.items()))
    encoded = rankport(
        "encode", "--bundle", encoder_bundle.path, "--items", items, "--store", server.url, "--json", "-"
    )
    assert json.loads(encoded.stdout)["encoded"] == len(TEXTS)
    with ItemEncoder.load(encoder_bundle) as encoder:
        check_stored(server, encoder)
    keys = [Key("i3"), Key("none")]
    shared = ["--prefix", "nurse", "i3", "none", "--keys", "--json"]
    scored = rankport("score", "--bundle", mix_bundle.path, "--store", server.url, *shared)
    assert scored.returncode == 0, scored.stderr
    items_scored = {item["item"]: item["score"] for item in json.loads(scored.stdout)["items"]}
    with (
        serve(mix_bundle.path, "--store", server.url) as command,
        Client(command.address, timeout_s=30.0) as client,
    ):
        before = client.score("nurse", keys)
        assert items_scored == {"i3": pytest.approx(float(before.scores[0]), abs=1e-5), "none": None}
        server.kill()
        with pytest.raises(StoreError, match=r"token store redis://.* no answer of Redis"):
            client.score("nurse", keys)
        server.start()
        after = once_it_answers(lambda: client.score("nurse", keys))
        np.testing.assert_array_equal(after.scores, before.scores)
        assert client.lookup(["i3", "none"]).status == (ItemStatus.OK, ItemStatus.NOT_FOUND)


def once_it_answers(call: Callable[[], T]) -> T:
    """Calls again while the store is away."""
    until = time.monotonic() + DONE_S
    while True:
        try:
            return call()
        except StoreError:
            assert time.monotonic() < until


@contextmanager
def nearline(server: RedisServer, *options: object) -> Iterator["subprocess.Popen[str]"]:
    """Runs the command on the server's stream and store; it consumes."""
    command = [*RANKPORT, "nearline", "--redis", server.url, "--store", server.url, *map(str, options)]
    command += ["--group", "g", "--claim-after-s", "0.5", "--max-batch-items", "8"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next((line for line in process.stderr if line.startswith("consuming")), None)
            assert line is not None, "it ended"
            yield process
        finally:
            process.kill()
            process.communicate()


def add_changes(client: "redis.Redis") -> None:
    for id, text in TEXTS.items():
        client.xadd("items", {"id": id, "text": text, "version": 1})


def done(client: "redis.Redis") -> set[str]:
    """Items whose change is done."""
    return {item.decode() for item in client.hkeys("{items}:g:versions")}


def until_done(client: "redis.Redis", holds: Callable[[], bool]) -> None:
    """Waits, at the server, until something holds."""
    until = time.monotonic() + DONE_S
    while not holds():
        assert time.monotonic() < until
        client.blpop(["nothing"], 0.02)


def test_nearline_ends_behind_its_batch_when_it_is_told_to(
    server: RedisServer, encoder_bundle: Bundle
) -> None:
    with server.client() as client:
        with nearline(server, "--bundle", encoder_bundle.path) as process:
            add_changes(client)
            until_done(client, lambda: bool(done(client)))
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=DONE_S)
        assert process.returncode == 0
        assert re.search(
            r"^stopped: [1-9]\d* encoded, 0 unchanged, 0 deleted, 0 stale, 0 dead letters$", said, re.M
        )
        finished = done(client)
    with open_store(server.url, read_only=True) as store:
        assert set(store.namespace(encoder_bundle.manifest.fingerprint).keys()) == finished


def test_nearline_names_the_stream_that_is_none_and_the_port_that_is_taken(
    server: RedisServer, encoder_bundle: Bundle
) -> None:
    command = ("nearline", "--redis", server.url, "--store", server.url, "--bundle", encoder_bundle.path)
    with server.client() as client, socket.create_server(("", 0)) as taken:
        client.set("text", "no stream")
        other = rankport(*command, "--stream", "text")
        port = taken.getsockname()[1]
        busy = rankport(*command, "--metrics-port", port)
    assert (other.returncode, busy.returncode) == (1, 1)
    assert "stream 'text': Redis has a key of that name that is no stream" in other.stderr
    assert f"cannot listen on 127.0.0.1 port {port} for metrics: Address already in use" in busy.stderr


def test_nearline_that_is_killed_goes_on_with_the_encoder_of_a_server(server: RedisServer) -> None:
    with serving() as running, server.client() as client:
        options = ("--server", running.address, "--model", "encoder")
        with nearline(server, *options) as killed:
            running.encoder.worker.gate.clear()
            add_changes(client)
            until_done(client, lambda: client.xpending("items", "g")["pending"] > 0)
            killed.kill()
        assert not done(client)
        running.encoder.worker.gate.set()
        with nearline(server, *options) as process:
            until_done(client, lambda: done(client) == set(TEXTS))
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=DONE_S)
        assert process.returncode == 0
        assert client.xpending("items", "g")["pending"] == 0
        check_stored(server, running.encoder)
