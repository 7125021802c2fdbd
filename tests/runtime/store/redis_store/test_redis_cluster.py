"""Tokens and changes in a real cluster of three nodes."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from rankport.runtime.jobs.encode_job import namespace_of
from rankport.runtime.nearline.config import NearlineConfig
from rankport.runtime.nearline.consumer import NearlineConsumer
from rankport.runtime.nearline.stream import ChangeStream
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.redis_store.connection import RedisConnection
from rankport.runtime.store.redis_store.location import RedisLocation
from support.effort import full_effort
from support.hash_encoder import HashEncoder
from support.servers.redis_server import RedisServer, executable, free_port, redis_server
from support.token_samples import ENCODER, HASH, SPEC, entry, tokens_of

pytestmark = full_effort


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[RedisServer]]:
    with ExitStack() as stack:
        servers = []
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            options = ("--cluster-enabled yes", f"--cluster-config-file {folder / 'nodes.conf'}")
            servers.append(stack.enter_context(redis_server(folder, *options, port=free_port())))
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        cli = str(Path(executable()).with_name("redis-cli"))
        subprocess.run(
            [cli, "--cluster", "create", *addresses, "--cluster-yes"], check=True, stdout=subprocess.DEVNULL
        )
        yield servers


def test_items_spread_over_nodes_and_all_come_back(nodes: list[RedisServer]) -> None:
    url = nodes[0].url
    keys = [f"k{number}" for number in range(300)]
    with open_store(url, create=True) as store:
        namespace = store.namespace(ENCODER, SPEC, create=True)
        namespace.put_many([entry(key, number) for number, key in enumerate(keys)])
        for server in nodes:
            with server.client() as client:
                assert len(client.keys("rankport:t:*")) > 50
        stored = namespace.read(["absent", *keys])
        assert stored.places.tolist() == list(range(1, 301))
        np.testing.assert_array_equal(stored.tokens, [tokens_of(number) for number in range(300)])
        assert sorted(namespace.keys()) == sorted(keys)
        assert namespace.content_hashes(["k0", "absent"]) == [HASH, None]
        assert namespace.delete_many(keys[:10]) == 10
        version = namespace.version()
        namespace.put_many([entry("k0")])
        assert namespace.version() != version
    with open_store(nodes[2].url, read_only=True) as reader:
        assert len(reader.namespace(ENCODER)) == 291
        assert reader.namespace(ENCODER).alive


def test_changes_come_through_a_cluster(nodes: list[RedisServer]) -> None:
    connection = RedisConnection(RedisLocation.parse(nodes[0].url), 5.0)
    encoder = HashEncoder()
    with open_store(nodes[0].url, create=True) as store, closing(connection):
        stream = ChangeStream(connection, "items", "g", "one")
        consumer = NearlineConsumer(
            encoder, namespace_of(store, encoder), stream, NearlineConfig(group="g", max_wait_s=0.0)
        )
        stream.ensure_group()
        for number in range(3):
            connection.run([("XADD", "items", "*", "id", f"k{number}", "text", f"text {number}")])
        assert stream.backlog().lag_s > 0
        consumer.step()
        assert (consumer.counts.encoded, stream.backlog().pending) == (3, 0)
        assert sorted(store.namespace(encoder.fingerprint).keys()) == ["k0", "k1", "k2"]
