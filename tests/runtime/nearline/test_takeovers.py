"""Who works on a change, and who waits: leases, what is taken over of others, and what is waited for."""

import threading
import time
from contextlib import suppress

import pytest

from rankport.protos.errors import Unavailable
from rankport.runtime.nearline.changes import read_change
from rankport.runtime.nearline.config import NearlineConfig
from rankport.runtime.nearline.consumer import NearlineConsumer
from rankport.runtime.nearline.stream import ChangeStream
from rankport.runtime.store.redis_store.connection import RedisConnection
from rankport.runtime.store.redis_store.location import RedisLocation
from support.effort import full_effort
from support.hash_encoder import HashEncoder
from support.jobs.changes import BASE, GROUP, Consumers, expected
from support.jobs.encode_jobs import stored
from support.servers.redis_server import RedisServer


@pytest.mark.parametrize("name", ["two", "one"], ids=["of another name", "of the same name"])
def test_item_that_another_consumer_works_on_waits(changes: Consumers, name: str) -> None:
    first, second = changes.stream("one"), changes.consumer(name)
    changes.add(id="a", text="old", version=1)
    [entry] = first.read(1, 0.1)
    old = read_change(entry)
    assert first.lease([old], 30.0) == ["mine"]
    changes.add(id="a", text="new", version=2)
    second.step()
    assert stored(changes.namespace) == {}
    assert first.finish([old]) == [old]
    second.step()
    assert stored(changes.namespace) == expected(a="new")
    assert changes.pending() == 0


def test_changes_of_a_consumer_that_died_are_taken_over(changes: Consumers) -> None:
    entry = changes.add(id="a", text="one", version=1)
    assert len(changes.stream("dead").read(8, 0.1)) == 1
    changes.leave(entry)
    changes.add(id="b", text="two")
    changes.consumer("alive").step()
    assert stored(changes.namespace) == expected(a="one", b="two")
    assert changes.pending() == 0


def test_waiting_for_others_of_a_batch_ends_where_it_is_to_stop(changes: Consumers) -> None:
    config = NearlineConfig(group=GROUP, consumer="one", max_wait_s=3600.0)
    consumer = NearlineConsumer(HashEncoder(), changes.namespace, changes.stream(), config)
    running = threading.Thread(target=consumer.run)
    running.start()
    changes.add(id="a", text="one")
    while not changes.pending():
        time.sleep(0.01)
    consumer.stop()
    running.join()
    assert stored(changes.namespace) == expected(a="one")


def test_waiting_for_changes_is_shorter_than_a_reply_may_take(server: RedisServer) -> None:
    connection = RedisConnection(RedisLocation.parse(f"{server.url}?timeout_s=0.2"), 0.2)
    stream = ChangeStream(connection, "items", GROUP, "one")
    stream.ensure_group()
    assert stream.read(1, 60.0) == []
    connection.close()


def test_change_that_the_encoder_fails_on_is_tried_again_and_a_dead_letter_in_the_end(
    changes: Consumers,
) -> None:
    entry = changes.add(id="a", text="crash")
    changes.add(id="b", text="fine")
    changes.consumer().step()
    assert stored(changes.namespace) == expected(b="fine")
    assert (changes.pending(), changes.dead()) == (1, [])
    changes.redis.delete(f"{BASE}:leases")
    changes.leave(entry, deliveries=4)
    changes.add(id="c", text="fine")
    changes.consumer().step()
    [dead] = changes.dead()
    assert b"the pass failed" in dead[b"reason"]
    assert (dead[b"deliveries"], changes.redis.hgetall(f"{BASE}:leases")) == (b"5", {})


def test_encoder_that_is_away_is_waited_for(changes: Consumers) -> None:
    class Away(HashEncoder):
        def encode(self, texts: object, *, truncation: object = "error") -> object:  # type: ignore[override]
            raise Unavailable("the server is away")

    changes.add(id="a", text="one", version=1)
    away = changes.consumer(encoder=Away())
    with pytest.raises(Unavailable):
        away.step()
    assert changes.pending() == 1
    assert away.counts.dead_letters == 0
    with pytest.raises(Unavailable):
        away.step()


@full_effort
def test_consumers_that_wait_for_an_encoder_make_no_dead_letters_of_what_they_hold(
    changes: Consumers,
) -> None:
    class Away(HashEncoder):
        def encode(self, texts: object, *, truncation: object = "error") -> object:  # type: ignore[override]
            raise Unavailable("the server is away")

    for version in range(3):  # two wait behind the newest
        changes.add(id="a", text=str(version), version=version)
    away, idle = (changes.consumer(name, encoder=Away(), claim_after_s=0.1) for name in ("away", "idle"))
    for _ in range(4):
        time.sleep(0.1)
        for consumer in (away, idle):
            with suppress(Unavailable):
                consumer.step()
    later = changes.consumer("later", claim_after_s=0.1)
    while changes.pending():
        later.step()
    assert changes.dead() == []
    assert stored(changes.namespace) == expected(a="2")


def test_what_somebody_works_on_is_not_claimed_and_counts_no_delivery(changes: Consumers) -> None:
    changes.add(id="a", text="one")
    changes.add(id="b", text="two")
    one, two, three = (changes.stream(name) for name in ("one", "two", "three"))
    first, second = one.read(8, 0.1)
    one.lease([read_change(first)], 30.0)
    assert [(entry.id, entry.deliveries) for entry in two.claim(8, 0.0, ())] == [(second.id, 2)]
    assert two.claim(8, 0.0, [second.id]) == []
    assert [(entry.id, entry.deliveries) for entry in three.claim(8, 0.0, ())] == [(second.id, 3)]
    changes.redis.delete(f"{BASE}:leases")
    assert [entry.deliveries for entry in three.claim(8, 0.0, ())] == [2, 4]


def test_change_that_ends_each_of_its_consumers_is_a_dead_letter_in_the_end(changes: Consumers) -> None:
    entry = changes.add(id="a", text="poison")
    changes.stream("died").read(8, 0.1)
    changes.leave(entry, deliveries=5)
    changes.add(id="b", text="fine")
    changes.consumer("alive").step()
    [dead] = changes.dead()
    assert dead[b"reason"] == b"delivered 5 times, and never done"
    assert stored(changes.namespace) == expected(b="fine")
