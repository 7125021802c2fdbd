"""Consumers of a stream of changes, for tests, and what they are to store."""

from rankport.runtime.nearline.config import NearlineConfig
from rankport.runtime.nearline.consumer import NearlineConsumer
from rankport.runtime.nearline.stream import ChangeStream
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.redis_store.connection import RedisConnection
from support.hash_encoder import HashEncoder
from support.servers.redis_server import RedisServer

GROUP = "g"
BASE = "{items}:g"


class Consumers:
    """Consumers of one stream, which step by step do what there is."""

    def __init__(self, server: RedisServer, connection: RedisConnection, namespace: TokenNamespace) -> None:
        self.redis = server.client()
        self.connection, self.namespace = connection, namespace

    def add(self, **fields: str | int) -> str:
        return self.redis.xadd("items", fields).decode()  # type: ignore[arg-type,union-attr]

    def leave(self, entry: str, deliveries: int = 1) -> None:
        """Makes an entry one that a consumer took an hour ago, delivered so often, and left."""
        facts = ("IDLE", 3_600_000, "RETRYCOUNT", deliveries)
        assert self.redis.execute_command("XCLAIM", "items", GROUP, "gone", 0, entry, *facts)

    def stream(self, name: str = "one") -> ChangeStream:
        stream = ChangeStream(self.connection, "items", GROUP, name)
        stream.ensure_group()
        return stream

    def consumer(
        self, name: str = "one", encoder: HashEncoder | None = None, claim_after_s: float = 30.0
    ) -> NearlineConsumer:
        config = NearlineConfig(
            group=GROUP, consumer=name, max_wait_s=0.0, max_batch_items=8, claim_after_s=claim_after_s
        )
        return NearlineConsumer(encoder or HashEncoder(), self.namespace, self.stream(name), config)

    def pending(self) -> int:
        return int(self.redis.xpending("items", GROUP)["pending"])

    def dead(self) -> list[dict[bytes, bytes]]:
        return [fields for _, fields in self.redis.xrange(f"{BASE}:dead")]


def expected(**texts: str) -> dict[str, bytes]:
    return {item: HashEncoder().encode([text])[0].tobytes() for item, text in texts.items()}
