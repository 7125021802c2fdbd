"""Writes to Redis as a cluster and as a user with few rights sees them."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.redis_store.connection import Command, RedisConnection
from rankport.runtime.store.redis_store.key_names import KeyNames
from rankport.runtime.store.redis_store.location import RedisLocation
from rankport.runtime.store.redis_store.namespace import RedisNamespace
from support.servers.redis_server import RedisServer
from support.token_samples import ENCODER, SPEC, entry


class Nodes(RedisConnection):
    """Connection as to a cluster, that notes which keys are written at once."""

    def __init__(self, server: RedisServer) -> None:
        self.written: list[list[bytes]] = []
        self.lost: bytes | None = None  # a key whose node is away
        super().__init__(RedisLocation.parse(server.url), 1.0)

    @property
    def clustered(self) -> bool:
        return True

    def run(self, commands: Sequence[Command]) -> list[Any]:
        names = [command[1] for command in commands if command[0] == "SET"]
        self.written += [[name for name in names if isinstance(name, bytes)]] if names else []
        if self.lost in names:
            raise StoreError("its node is away")
        return super().run(commands)


def test_in_a_cluster_a_version_follows_its_items(server: RedisServer, namespace: TokenNamespace) -> None:
    with closing(Nodes(server)) as nodes:
        spread = RedisNamespace(nodes, KeyNames("rankport"), ENCODER, SPEC, read_only=False)
        before = spread.version()
        spread.put_many([entry("a"), entry("b")])
        items = [f"rankport:t:{ENCODER}:{key}".encode() for key in "ab"]
        assert nodes.written == [items, [b"rankport:version"]]
        assert spread.version() != before
    assert sorted(namespace.keys()) == ["a", "b"]


def test_in_a_cluster_items_without_their_version_get_one_before_they_are_unchanged(
    server: RedisServer, namespace: TokenNamespace
) -> None:
    with closing(Nodes(server)) as nodes:

        def opened() -> RedisNamespace:
            return RedisNamespace(nodes, KeyNames("rankport"), ENCODER, SPEC, read_only=False)

        spread = opened()
        spread.put_many([entry("a")])
        nodes.lost = b"rankport:version"
        with pytest.raises(StoreError, match="its node is away"):
            spread.put_many([entry("a", 2)])
        nodes.lost = None
        nodes.written.clear()
        for writer in (spread, opened()):  # which goes on, or is the next one
            assert writer.content_hashes(["a"]) == writer.content_hashes(["a"]) != [None]
        assert nodes.written == [[b"rankport:version"]] * 2


def test_user_that_may_not_is_told_what_it_needs(server: RedisServer, namespace: TokenNamespace) -> None:
    url = server.url.replace("unix://", "unix://app:pw@")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~rankport:*", "+@all", "-@dangerous")
        needed = r"'info' command.*: allow it \+@read \+@write \+@transaction \+info on its keys"
        with pytest.raises(StoreError, match=needed):
            open_store(url)
        client.execute_command("ACL", "SETUSER", "app", "-@all", "+@read", "+@write", "+@transaction")
        client.execute_command("ACL", "SETUSER", "app", "+@connection", "+info")
        with open_store(url, create=True) as store:
            writer = store.namespace(ENCODER)
            writer.put_many([entry("a")])
            with pytest.raises(StoreError, match=r"nearline's also \+@scripting \+time"):
                writer.fence(["a"], 60.0)
            client.execute_command("ACL", "SETUSER", "app", "+@scripting", "+time")
            writer.put_many([entry("a")], fence=writer.fence(["a"], 60.0))
        client.execute_command("ACL", "DELUSER", "app")
    assert list(namespace.keys()) == ["a"]
