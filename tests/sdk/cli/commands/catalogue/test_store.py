"""`rankport store` over stores of both kinds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.runtime.store.contract import TokenEntry
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.cli import rankport
from support.token_samples import ENCODER, HASH, SPEC, entry, raw_put

NEW = "b" * 64


@pytest.fixture
def lmdb(tmp_path: Path) -> Path:
    """A store in LMDB: three items of one encoder, two of one that is not published."""
    with open_store(tmp_path / "tokens", create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry(key, 1) for key in "abc"])
        store.namespace(NEW, SPEC, create=True, filling=True).put_many([entry(key, 2) for key in "ab"])
    return tmp_path / "tokens"


def told(*arguments: object, status: int = 0) -> dict[str, Any]:
    done = rankport("store", *arguments, "--json", "-")
    assert done.returncode == status, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def said(*arguments: object, status: int = 0) -> str:
    done = rankport("store", *arguments)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_inspect_lists_encoders_and_check_names_what_cannot_be_read(lmdb: Path) -> None:
    first, second = told("inspect", lmdb)["encoders"]
    assert (first["fingerprint"], first["published"], first["items"], first["checked"]) == (
        ENCODER,
        True,
        3,
        None,
    )
    assert (second["fingerprint"], second["published"], second["items"]) == (NEW, False, 2)
    assert (first["tokens"], first["hidden_size"], first["dtype"], first["item_bytes"]) == (
        2,
        4,
        "float16",
        16,
    )
    assert "all read" in said("inspect", lmdb, "--check")
    raw_put(lmdb, b"tokens/" + ENCODER.encode(), b"\x00b", b"x" * 56)
    checked = told("inspect", lmdb, "--check", status=1)["encoders"][0]["checked"]
    assert (checked["readable"], checked["unreadable"], checked["unreadable_keys"]) == (2, 1, ["b"])
    assert checked["oldest"] <= checked["newest"]
    assert "1 cannot be read: 'b'" in said("inspect", lmdb, "--check", status=1)


def test_diff_counts_and_lists_what_changed(lmdb: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    assert "3 written" in said("copy", lmdb, copied)
    assert told("diff", lmdb, copied) == {"added": 0, "removed": 0, "changed": 0}
    with open_store(copied) as store:
        namespace = store.namespace(ENCODER)
        namespace.put_many([TokenEntry("b", np.zeros((2, 4), np.float16), bytes(16)), entry("d")])
        namespace.delete_many(["c"])
    assert told("diff", lmdb, copied, "--list", tmp_path / "changes", status=1) == dict.fromkeys(
        ("added", "removed", "changed"), 1
    )
    listed = [json.loads(line) for line in (tmp_path / "changes").read_text().splitlines()]
    assert sorted((line["change"], line["key"]) for line in listed) == [
        ("added", "d"),
        ("changed", "b"),
        ("removed", "c"),
    ]
    assert "1 added, 1 removed, 1 changed" in said("diff", lmdb, copied, status=1)


def test_encoder_to_compare_is_asked_for_where_it_is_not_plain(lmdb: Path, tmp_path: Path) -> None:
    with open_store(tmp_path / "other", create=True) as store:
        store.namespace("c" * 64, SPEC, create=True).put_many([entry(key, 1) for key in "abc"])
    assert "the stores share 0 encoders (none): say which" in said("diff", lmdb, tmp_path / "other", status=2)
    assert "0 added" in said("diff", lmdb, tmp_path / "other", "--encoder", ENCODER, "--to-encoder", "c" * 64)


@pytest.mark.parametrize(("name", "options"), [("x.snapshot", ()), ("x", ("--to", "snapshot"))])
def test_copy_makes_snapshots_and_stores_of_them_again(
    lmdb: Path, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    report = told("copy", lmdb, tmp_path / name, *options)["encoders"]
    assert [(fingerprint, facts["written"], facts["compared"]) for fingerprint, facts in report.items()] == [
        (ENCODER, 3, 3)
    ]
    assert [path.name for path in (tmp_path / name).iterdir()] == [f"{ENCODER}.tokens"]
    said("copy", tmp_path / name, tmp_path / "back", "--dtype", "int8")
    assert (
        told("copy", tmp_path / name, tmp_path / "back", "--dtype", "int8")["encoders"][ENCODER]["unchanged"]
        == 3
    )
    with open_store(tmp_path / "back", read_only=True) as store:
        assert dict(store.fingerprints()) == {ENCODER: TokenSpec(2, 4, "int8")}
        assert not store.filling()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("FROM", "FROM/."), 2, "are one store: give another to copy to"),
        (
            ("FROM", "LMDB", "--to", "snapshot"),
            2,
            "is a store of kind lmdb, not snapshot: give another directory",
        ),
        (("FROM", "LMDB", "--dtype", "int8"), 1, "int8"),
        (("FROM", "new", "--encoder", "c" * 64), 1, "no tokens of encoder c"),
        (("FROM", "new", "--encoder", NEW), 1, "are not published yet"),
        (("LMDB2", "new"), 1, "no token store at"),
    ],
)
def test_copy_that_cannot_be_made_is_refused(
    lmdb: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    with open_store(tmp_path / "other", create=True) as store:
        store.namespace(ENCODER, SPEC, create=True)
    paths = {
        "FROM": lmdb,
        "FROM/.": f"{lmdb}/.",
        "LMDB": tmp_path / "other",
        "LMDB2": tmp_path / "absent",
        "new": tmp_path / "new",
    }
    assert message in said("copy", *(paths.get(word, word) for word in arguments), status=status)


def test_publish_and_drop_change_what_is_seen(lmdb: Path) -> None:
    assert f"2 items of encoder {NEW} are published" in said("publish", NEW, "--store", lmdb)
    assert all(encoder["published"] for encoder in told("inspect", lmdb)["encoders"])
    assert f"3 items of encoder {ENCODER} are dropped" in said("drop", ENCODER, "--store", lmdb)
    assert [encoder["fingerprint"] for encoder in told("inspect", lmdb)["encoders"]] == [NEW]
    assert f"no tokens of encoder {ENCODER} here" in said("drop", ENCODER, "--store", lmdb, status=1)


def test_snapshot_is_dropped_as_a_file(lmdb: Path, tmp_path: Path) -> None:
    said("copy", lmdb, tmp_path / "x.snapshot")
    said("drop", ENCODER, "--store", tmp_path / "x.snapshot")
    assert list((tmp_path / "x.snapshot").iterdir()) == []


def test_compact_is_of_lmdb_alone(tmp_path: Path, lmdb: Path) -> None:
    assert rankport("store", "copy", lmdb, tmp_path / "s.snapshot").returncode == 0
    for location in (tmp_path / "s.snapshot", "redis://localhost:1/0"):
        refused = rankport("store", "compact", location)
        assert refused.returncode == 2
        assert f"{location} is no store in LMDB" in refused.stderr


def test_compact_gives_the_room_of_dropped_items_back(lmdb: Path) -> None:
    with open_store(lmdb) as store:
        namespace = store.namespace(ENCODER)
        namespace.put_many(
            [TokenEntry(str(number), np.ones((2, 4), np.float16), HASH) for number in range(20_000)]
        )
        namespace.delete_many([str(number) for number in range(20_000)])
    compaction = told("compact", lmdb)
    assert compaction["after_bytes"] * 10 < compaction["before_bytes"]
    assert compaction["after_bytes"] == (lmdb / "data.mdb").stat().st_size
    assert sorted(path.name for path in lmdb.parent.iterdir()) == ["tokens"]
    assert [encoder["items"] for encoder in told("inspect", lmdb, "--check")["encoders"]] == [3, 2]
