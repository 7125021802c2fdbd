"""Copies to and from Redis, by a URL whose password nothing shows."""

from pathlib import Path

import numpy as np

from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from support.cli import rankport
from support.servers.redis_server import RedisServer
from support.token_samples import ENCODER, SPEC


def test_tokens_go_to_redis_and_back_as_they_are(server: RedisServer, tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).normal(size=(3000, 2, 4)).astype(np.float16)
    keys = [f"item {number}" for number in range(3000)]
    with open_store(tmp_path / "lmdb", create=True) as store:
        entries = [
            TokenEntry(key, row, key.encode().ljust(16)) for key, row in zip(keys, tokens, strict=True)
        ]
        store.namespace(ENCODER, SPEC, create=True).put_many(entries)
    for start, end in (("lmdb", server.url), (server.url, "back.snapshot")):
        places = [place if "://" in place else str(tmp_path / place) for place in (start, end)]
        done = rankport("store", "copy", *places)
        assert "3,000 written, 0 were there, 3,000 compared and equal, 3,000 stored" in done.stdout, (
            done.stderr
        )
    with open_store(tmp_path / "back.snapshot", read_only=True) as store:
        namespace = store.namespace(ENCODER, SPEC)
        np.testing.assert_array_equal(namespace.read(keys).tokens, tokens)
        assert namespace.content_hashes(["item 7"]) == [b"item 7".ljust(16)]
    assert (
        rankport("store", "diff", server.url, tmp_path / "lmdb").stdout == "0 added, 0 removed, 0 changed\n"
    )
    assert "3,000 items" in rankport("store", "inspect", server.url, "--check").stdout


def test_password_of_a_url_is_not_shown() -> None:
    refused = rankport("store", "copy", "redis://me:secret@localhost:1", "redis://me:secret@localhost:1")
    assert refused.returncode == 2
    assert "redis://localhost:1 and redis://localhost:1 are one store" in refused.stderr
