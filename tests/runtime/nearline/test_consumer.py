"""Changes from a real stream of Redis: done once, the newest version of each item, whatever fails in between."""

import shutil
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.jobs.encode_job import namespace_of
from rankport.runtime.nearline.status_page import StatusPage
from rankport.runtime.store.opening import open_store
from support.hash_encoder import HashEncoder
from support.jobs.changes import BASE, Consumers, expected
from support.jobs.encode_jobs import stored


def test_changes_are_stored_acknowledged_and_counted(changes: Consumers) -> None:
    changes.add(id="a", text="one", version=1)
    changes.add(id="b", text="two", version=1)
    consumer = changes.consumer()
    consumer.step()
    assert stored(changes.namespace) == expected(a="one", b="two")
    assert changes.pending() == 0
    changes.add(id="a", text="one", version=2)
    changes.add(id="b", op="delete", version=2)
    consumer.step()
    assert stored(changes.namespace) == expected(a="one")
    counts = consumer.counts
    assert (counts.encoded, counts.unchanged, counts.deleted, counts.batches) == (2, 1, 1, 2)
    assert changes.redis.hgetall(f"{BASE}:versions") == {b"a": b"%020d" % 2, b"b": b"%020dd" % 2}
    assert changes.redis.hgetall(f"{BASE}:leases") == {}


def test_newest_version_stands_in_whichever_order_changes_come(changes: Consumers) -> None:
    changes.add(id="a", text="third", version=30)
    changes.add(id="a", text="second", version=9)
    changes.add(id="b", op="delete", version=5)
    consumer = changes.consumer()
    consumer.step()
    consumer.step()
    changes.add(id="b", text="from before its deletion", version=4)
    changes.add(id="a", text="first", version=1)
    changes.add(id="a", text="third again", version=30)
    for _ in range(3):
        consumer.step()
    assert stored(changes.namespace) == expected(a="third")
    assert consumer.counts.stale == 4
    assert changes.pending() == 0


def test_without_a_version_the_order_of_the_stream_decides(changes: Consumers) -> None:
    for text in ("one", "two", "three"):
        changes.add(id="a", text=text)
    consumer = changes.consumer()
    consumer.step()
    consumer.step()
    consumer.step()
    assert stored(changes.namespace) == expected(a="three")
    assert changes.pending() == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": "x"}, "it has no id"),
        ({"id": "a"}, "a put has a text"),
        ({"id": "a", "text": "  "}, "the text is blank"),
        ({"id": "a", "op": "erase"}, "op 'erase': give put or delete"),
        ({"id": "a", "text": "x", "version": "-1"}, "version '-1'"),
        ({"id": "a", "text": "x", "version": "9" * 5000}, "give a whole number from 0 to"),
        ({"id": "a", "text": "x", "price": "1"}, "field 'price' is none of"),
        ({"id": "a", "text": "malformed"}, "item 0 is malformed"),
    ],
)
def test_change_that_cannot_be_done_is_a_dead_letter_and_costs_no_other(
    changes: Consumers, fields: dict[str, str], reason: str
) -> None:
    changes.add(id="b", text="fine", version=1)
    entry = changes.add(**fields)
    consumer = changes.consumer()
    consumer.step()
    assert stored(changes.namespace) == expected(b="fine")
    [dead] = changes.dead()
    assert reason.removeprefix("item 0 ") in dead[b"reason"].decode()
    assert dead[b"entry"] == entry.encode()
    assert {name.encode(): value.encode() for name, value in fields.items()}.items() <= dead.items()
    assert changes.pending() == 0
    assert consumer.counts.dead_letters == 1
    assert changes.redis.hgetall(f"{BASE}:leases") == {}


def test_place_in_the_stream_that_is_no_time_in_milliseconds_is_no_version(changes: Consumers) -> None:
    changes.redis.xadd("items", {"id": "a", "text": "one"}, id="1700000000000000-0")  # microseconds
    changes.redis.xadd("items", {"id": "b", "text": "two", "version": "007"}, id="1700000000000000-1")
    changes.consumer().step()
    assert stored(changes.namespace) == expected(b="two")
    [dead] = changes.dead()
    assert b"1700000000000000-0, is no time in milliseconds" in dead[b"reason"]


def test_dead_letter_that_cannot_be_written_stays_with_the_group(changes: Consumers) -> None:
    changes.redis.set(f"{BASE}:dead", "no stream")
    many = {f"field{number}": "x" for number in range(5000)}
    entry = changes.add(id="a", text="one", **many)
    with pytest.raises(StoreError, match="WRONGTYPE"):
        changes.consumer().step()
    assert changes.pending() == 1
    changes.redis.delete(f"{BASE}:dead")
    claiming = changes.consumer("two", claim_after_s=0.1)
    while changes.pending():
        claiming.step()
    [dead] = changes.dead()
    assert (dead[b"id"], dead[b"text"], dead[b"entry"]) == (b"a", b"one", entry.encode())
    assert b"none of id, op, text, version; 5000 other fields are left out here" in dead[b"reason"]
    assert len(dead) == 5


def test_group_that_was_begun_with_another_store_is_refused(changes: Consumers, tmp_path: Path) -> None:
    with open_store(tmp_path / "other", create=True) as other:
        changes.stream().check_begun_with(other, "hash-encoder")
        changes.add(id="a", text="one")
        consumer = changes.consumer()
        consumer.step()
        with pytest.raises(
            InvalidRequest, match=r"group 'g' of stream 'items' did changes of 1 item already, and"
        ):
            changes.stream().check_begun_with(other, "hash-encoder")
        namespace_of(other, HashEncoder())
        changes.stream().check_begun_with(other, "hash-encoder")


def test_store_that_is_replaced_ends_the_consumer(changes: Consumers, tmp_path: Path) -> None:
    consumer = changes.consumer()
    changes.add(id="a", text="one")
    consumer.step()
    (tmp_path / "store").rename(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "store")
    changes.add(id="b", text="two")
    with pytest.raises(
        StoreError, match="is replaced by another since it was opened to write to, which ends here"
    ):
        consumer.run()
    assert changes.pending() == 1


def test_page_tells_lag_and_outcomes(changes: Consumers) -> None:
    changes.redis.xadd("items", {"id": "a", "text": "one"}, id="1000-0")
    consumer, stream = changes.consumer(), changes.stream()
    with StatusPage(consumer, stream, "127.0.0.1", 0) as page:
        before = page.answer("/metrics")[1]
        consumer.step()
        after = page.answer("/metrics")[1]
        assert page.answer("/healthz") == (200, "ok\n")
    [lag] = [line.split()[1] for line in before.splitlines() if line.startswith("rankport_nearline_lag_s")]
    assert float(lag) > 1e9
    assert "rankport_nearline_lag_seconds 0.0\n" in after
    assert 'rankport_nearline_changes_total{outcome="encoded"} 1\n' in after
    assert "rankport_nearline_pending_changes 0\n" in after
