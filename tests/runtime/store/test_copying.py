"""Copies between kinds of store: equal bit for bit, or an error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.store.contract import TokenEntry, TokenNamespace
from rankport.runtime.store.copy_ends import NamespaceSource, NamespaceTarget, snapshot_target, spec_as
from rankport.runtime.store.copying import CopyProgress, copy_tokens
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.snapshots import write_snapshot
from support.token_samples import ENCODER, HASH, SPEC, entry, raw_put


@pytest.fixture
def source(namespace: TokenNamespace) -> TokenNamespace:
    """A namespace of items in LMDB, long keys among them."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(2500, 2, 4)).astype(np.float16)
    keys = [f"item {number}" for number in range(2499)] + ["k" * 700]
    namespace.put_many(
        [
            TokenEntry(key, rows, number.to_bytes(16, "big"))
            for number, (key, rows) in enumerate(zip(keys, tokens, strict=True))
        ]
    )
    return namespace


def of(namespace: TokenNamespace) -> NamespaceSource:
    return NamespaceSource(namespace, "here")


def content(namespace: TokenNamespace) -> dict[str, tuple[bytes, bytes]]:
    """Reads all of a namespace: content hash and tokens by key."""
    keys = sorted(namespace.keys())
    hashes = namespace.content_hashes(keys)
    return {
        key: (content_hash or b"", rows.tobytes())
        for key, content_hash, rows in zip(keys, hashes, namespace.read(keys).tokens, strict=True)
    }


@contextmanager
def opened(path: Path) -> Iterator[TokenNamespace]:
    with open_store(path, read_only=True) as store:
        yield store.namespace(ENCODER)


def test_snapshot_of_a_store_equals_it_and_so_does_the_store_that_is_made_of_that(
    source: TokenNamespace, tmp_path: Path
) -> None:
    said: list[CopyProgress] = []
    report = copy_tokens(of(source), snapshot_target(tmp_path / "snap", of(source), SPEC), said.append)
    assert (report.items, report.written, report.unchanged, report.compared, report.stored) == (
        2500,
        2500,
        0,
        2500,
        2500,
    )
    assert said[-1] == CopyProgress("compared", 2500, 2500)
    with opened(tmp_path / "snap") as snapshot, open_store(tmp_path / "again", create=True) as store:
        assert content(snapshot) == content(source)
        before, after = source.info_many(["item 7"])[0], snapshot.info_many(["item 7"])[0]
        assert before == after  # with the time of the write
        target = store.namespace(ENCODER, SPEC, create=True)
        target.put_many([entry("item 3", 9), entry("only here", 1)])
        report = copy_tokens(of(snapshot), NamespaceTarget(store, ENCODER, target.spec))
        assert (report.written, report.stored) == (2500, 2501)
        assert copy_tokens(of(snapshot), NamespaceTarget(store, ENCODER, target.spec)).unchanged == 2500
        target.delete_many(["only here"])
        assert content(target) == content(source)


def test_other_tokens_under_the_same_content_hash_are_written_anew(
    tmp_path: Path, namespace: TokenNamespace
) -> None:
    namespace.put_many([entry("a", 1), entry("b", 2)])
    with open_store(tmp_path / "other", create=True) as store:
        target = store.namespace(ENCODER, SPEC, create=True)
        target.put_many([entry("a", 7)])
        copy_tokens(of(namespace), NamespaceTarget(store, ENCODER, target.spec))
        assert content(target) == content(namespace)


def test_int8_copy_is_what_the_tokens_are_in_int8(source: TokenNamespace, tmp_path: Path) -> None:
    spec = spec_as(source.spec, "int8")
    copy_tokens(of(source), snapshot_target(tmp_path / "snap", of(source), spec))
    with opened(tmp_path / "snap") as snapshot, open_store(tmp_path / "again", create=True) as store:
        assert snapshot.spec == TokenSpec(2, 4, "int8")
        keys = sorted(source.keys())
        np.testing.assert_array_equal(snapshot.read(keys).tokens, spec.as_read(source.read(keys).tokens))
        target = store.namespace(ENCODER, spec, create=True)
        copy_tokens(of(snapshot), NamespaceTarget(store, ENCODER, target.spec))
        assert content(target) == content(snapshot)


def test_token_too_large_for_the_dtype_is_named(tmp_path: Path) -> None:
    spec = TokenSpec(1, 2, "float32")
    write_snapshot(
        tmp_path / "wide", {"small": np.ones((1, 2), "f4"), "large": np.full((1, 2), 1e6, "f4")}, spec
    )
    with (
        opened(tmp_path / "wide") as source,
        pytest.raises(InvalidRequest, match="'large' are too large for float16"),
    ):
        copy_tokens(of(source), snapshot_target(tmp_path / "snap", of(source), replace(spec, dtype="int8")))
    assert [path.name for path in (tmp_path / "snap").iterdir()] == [f".{ENCODER}.part"]


def test_values_that_cannot_be_read_are_named_and_the_others_copied(path: Path, tmp_path: Path) -> None:
    with open_store(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a", 1), entry("b", 2), entry("c", 3)])
    raw_put(path, b"tokens/" + ENCODER.encode(), b"\x00b", b"x" * 56)
    with opened(path) as source:
        report = copy_tokens(of(source), snapshot_target(tmp_path / "snap", of(source), SPEC))
    assert (report.items, report.unreadable, report.unreadable_keys, report.stored) == (3, 1, ("b",), 2)
    with open_store(path) as store:
        written = store.namespace(ENCODER)
        with pytest.raises(
            StoreError, match=r"the copy has 2 items of encoder a{64}, and the source 1 by now"
        ):
            copy_tokens(
                of(written),
                snapshot_target(tmp_path / "again", of(written), SPEC),
                lambda progress: written.delete_many(["a"]) if progress.stage == "copied" else None,
            )


class StoppedError(Exception):
    """End of a copy in its midst."""


def stop_after(items: int) -> Callable[[CopyProgress], None]:
    def check(progress: CopyProgress) -> None:
        if progress.stage == "copied" and progress.items >= items:
            raise StoppedError

    return check


def test_snapshot_that_was_stopped_goes_on_unless_its_source_has_changed(
    source: TokenNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "snap"

    def stopped() -> None:
        with pytest.raises(StoppedError):
            copy_tokens(of(source), snapshot_target(path, of(source), SPEC), stop_after(1000))

    stopped()
    with pytest.raises(StoreError, match="no token store at"):
        open_store(path, read_only=True)
    # As a kill in the midst of a batch leaves it: the columns have not come equally far.
    for name, cut in (("tokens", 5), ("keys", 3), ("digests", 21)):
        with (path / f".{ENCODER}.part" / name).open("r+b") as column:
            column.truncate(column.seek(0, 2) - cut)
    report = copy_tokens(of(source), snapshot_target(path, of(source), SPEC))
    assert 0 < report.unchanged < 1000
    assert report.written + report.unchanged == 2500
    with opened(path) as snapshot:
        assert content(snapshot) == content(source)
    stopped()
    source.put_many([entry("item 1", 77)])
    assert copy_tokens(of(source), snapshot_target(path, of(source), SPEC)).unchanged == 0
    with opened(path) as snapshot:
        assert content(snapshot) == content(source)


@pytest.mark.parametrize(
    ("column", "told"),
    [("tokens", "2 items of encoder"), ("digests", "the copy has 25")],
    ids=["rows", "index"],
)
def test_what_a_crash_of_the_machine_has_spoiled_is_made_anew_by_the_next_copy(
    source: TokenNamespace, tmp_path: Path, column: str, told: str
) -> None:
    path = tmp_path / "snap"
    with pytest.raises(StoppedError):
        copy_tokens(of(source), snapshot_target(path, of(source), SPEC), stop_after(1000))
    with (path / f".{ENCODER}.part" / column).open("r+b") as staged:
        staged.seek(4096 + 320)  # as long as it was, and zeros
        staged.write(bytes(32))
    with pytest.raises(StoreError, match=told):
        copy_tokens(of(source), snapshot_target(path, of(source), SPEC))
    assert copy_tokens(of(source), snapshot_target(path, of(source), SPEC)).written == 2500
    with opened(path) as snapshot:
        assert content(snapshot) == content(source)


def test_two_writers_of_one_snapshot_take_turns(source: TokenNamespace, tmp_path: Path) -> None:
    first = snapshot_target(tmp_path, of(source), SPEC)
    with pytest.raises(StoreError, match=r"another process writes .*\.tokens: wait"):
        snapshot_target(tmp_path, of(source), SPEC)
    first.close()
    snapshot_target(tmp_path, of(source), SPEC).close()


def test_source_that_is_written_to_meanwhile_is_told(source: TokenNamespace, tmp_path: Path) -> None:
    def write(progress: CopyProgress) -> None:
        if progress == CopyProgress("copied", 2500, 2500):
            source.put_many([TokenEntry("item 9", np.ones((2, 4), np.float16), HASH)])

    with pytest.raises(StoreError, match=r"1 item of encoder a{64} is not as in the source, 'item 9' first"):
        copy_tokens(of(source), snapshot_target(tmp_path / "snap", of(source), SPEC), write)
    with pytest.raises(StoreError, match="no token store at"):
        open_store(tmp_path / "snap", read_only=True)

    def delete(progress: CopyProgress) -> None:
        if progress == CopyProgress("copied", 2500, 2500):
            source.delete_many(["item 9"])

    with pytest.raises(
        StoreError, match=r"the copy has 2500 items of encoder a{64}, and the source 2499 by now"
    ):
        copy_tokens(of(source), snapshot_target(tmp_path / "snap", of(source), SPEC), delete)
    assert copy_tokens(of(source), snapshot_target(tmp_path / "snap", of(source), SPEC)).stored == 2499
