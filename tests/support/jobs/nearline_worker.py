"""Runs a nearline consumer in a process to be killed: python -m support.jobs.nearline_worker REDIS STORE NAME."""

import signal
import sys

from rankport.runtime.jobs.encode_job import namespace_of
from rankport.runtime.nearline.config import NearlineConfig
from rankport.runtime.nearline.consumer import NearlineConsumer
from rankport.runtime.nearline.stream import ChangeStream
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.redis_store.connection import RedisConnection
from rankport.runtime.store.redis_store.location import RedisLocation
from support.hash_encoder import HashEncoder

GROUP = "g"


def main(redis: str, store: str, name: str) -> None:
    """Consumes until SIGTERM."""
    encoder = HashEncoder()
    config = NearlineConfig(
        group=GROUP, consumer=name, max_batch_items=8, max_wait_s=0.002, claim_after_s=0.3, max_tries=1000
    )
    with open_store(store, create=True) as tokens:
        connection = RedisConnection(RedisLocation.parse(redis), 1.0)
        stream = ChangeStream(connection, config.stream, GROUP, name)
        consumer = NearlineConsumer(encoder, namespace_of(tokens, encoder), stream, config)
        signal.signal(signal.SIGTERM, lambda *_: consumer.stop())
        print("consuming", flush=True)
        consumer.run()
        connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
