"""Bytes of a snapshot: those of the page of its format, and none that lie."""

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import StoreError
from rankport.runtime.store.snapshot.layout import BLOCK_BYTES, Header, Sections, word_sums
from rankport.runtime.store.snapshot.store import SnapshotStore
from rankport.runtime.store.token_spec import TokenSpec
from support.effort import scale
from support.snapshots import WRITTEN_US, write_snapshot
from support.token_samples import ENCODER, HASH, SPEC

GOLDEN = Path(__file__).with_name("golden.tokens.gz")  # of the items below, and of version 1 for ever
ITEMS = {"a": 1, "item 2": 2, "é": 3}


def test_file_of_version_1_is_read_for_ever_and_still_written(tmp_path: Path) -> None:
    golden = gzip.decompress(GOLDEN.read_bytes())
    (tmp_path / f"{ENCODER}.tokens").write_bytes(golden)
    assert read_all(tmp_path) == ITEMS
    written = write_snapshot(tmp_path / "new", ITEMS).read_bytes()
    assert written[256:] == golden[256:]
    assert replace(Header.unpack(written), written_us=0) == replace(Header.unpack(golden), written_us=0)


def test_page_of_the_format_is_enough_to_read_a_file() -> None:
    """Reads the golden file as docs/stores.md says, with nothing of the product."""
    content = gzip.decompress(GOLDEN.read_bytes())
    magic, version, code, bits, name_bytes, k, d, rows, items, key_bytes, _, sums_sum, name = (
        struct.unpack_from("<8sIBBHIIQQQqQ128s", content)
    )
    assert (magic, version, code, name[:name_bytes].decode()) == (b"RPTOKENS", 1, 1, ENCODER)
    assert sum_by_page(content[:248]) == struct.unpack_from("<Q", content, 248)[0]
    sizes = (k * d * 2, 32), (1, rows), (1, 1)
    row_bytes = -(-sizes[0][0] // 8) * 8
    lengths = (
        row_bytes * rows,
        32 * rows,
        8 * rows,
        key_bytes,
        8 * items,
        8 * items,
        4 * items,
        4 * (2**bits + 1),
    )
    at, places = 4096, []
    for length in lengths:
        places.append(at)
        at = -(-(at + length) // 4096) * 4096
    tokens, facts, ends, keys, firsts, seconds, numbers, starts = places
    blocks = range(facts, at, 4096)
    sums = content[at : at + 8 * len(blocks)]
    assert [sum_by_page(content[block : block + 4096]) for block in blocks] == list(
        struct.unpack(f"<{len(blocks)}Q", sums)
    )
    assert sum_by_page(sums) == sums_sum
    for key, number in ITEMS.items():
        digest = blake2b(key.encode(), digest_size=16).digest()
        first = int.from_bytes(digest[:8], "little")
        begin, end = struct.unpack_from("<II", content, starts + 4 * (first >> (64 - bits)))
        halves = [content[firsts + 8 * at :][:8] + content[seconds + 8 * at :][:8] for at in range(items)]
        entry = halves.index(digest, begin, end)
        (row,) = struct.unpack_from("<I", content, numbers + 4 * entry)
        content_hash, written_us, row_sum = struct.unpack_from("<16sqQ", content, facts + 32 * row)
        row_tokens = content[tokens + row_bytes * row :][:row_bytes]
        assert sum_by_page(digest + content_hash + struct.pack("<q", written_us) + row_tokens) == row_sum
        assert (content_hash, written_us) == (HASH, WRITTEN_US)
        assert set(np.frombuffer(row_tokens, "<f2")) == {number}
        key_begin = struct.unpack_from("<Q", content, ends + 8 * (row - 1))[0] if row else 0
        assert content[keys + key_begin :].startswith(key.encode())


def sum_by_page(content: bytes) -> int:
    mask, state, total = 2**64 - 1, 0, 0
    for (word,) in struct.iter_unpack("<Q", content):
        state = (state + 0x9E3779B97F4A7C15) & mask
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        total += (word ^ (word >> 32)) * ((mixed ^ (mixed >> 31)) | 1)
    return total & mask


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A snapshot's bytes."""
    return write_snapshot(tmp_path_factory.mktemp("snapshot"), ITEMS).read_bytes()


def read_all(directory: Path) -> dict[str, int]:
    """Reads all tokens twice, by the keys that the snapshot lists and by those that it should have."""
    with SnapshotStore.open(directory, swap_s=0) as store:
        namespace = store.namespace(ENCODER)
        keys = list(namespace.keys())
        namespace.info_many(keys)
        tokens = namespace.get_many(list(ITEMS))
        assert sorted(keys) == sorted(ITEMS)
        return {key: int(rows.max()) for key, rows in zip(ITEMS, tokens, strict=True) if rows is not None}


def put(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / f"{ENCODER}.tokens").write_bytes(content)
    return tmp_path


@settings(max_examples=scale(50))
@given(st.data())
def test_a_byte_that_was_changed_is_told_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    sections = Sections.of(Header.unpack(content))
    used = [(0, 256)] + [
        (section.offset, section.offset + section.count * section.dtype.itemsize)
        for section in (
            sections.tokens,
            sections.facts,
            sections.keys,
            sections.firsts,
            sections.starts,
            sections.sums,
        )
    ]
    begin, end = data.draw(st.sampled_from(used))
    at = data.draw(st.integers(begin, end - 1))
    changed = bytearray(content)
    changed[at] ^= data.draw(st.integers(1, 255))
    directory = put(tmp_path_factory.mktemp("changed"), bytes(changed))
    try:
        read = read_all(directory)
    except StoreError:
        return
    assert read == ITEMS


@pytest.mark.parametrize("size", [0, 7, 255, 4095, 4096, 8192, -4096, -1, 4096 * 100])
def test_file_of_another_length_is_refused(tmp_path: Path, content: bytes, size: int) -> None:
    cut = content[:size] if size <= len(content) else content + bytes(size)
    with pytest.raises(StoreError, match=r"no snapshot that can be read: it has \d+ bytes, .*write it anew"):
        read_all(put(tmp_path, cut))


HEADERS: dict[str, tuple[Callable[[Header], Header], str]] = {
    "more rows": (lambda header: replace(header, rows=2**31), r"it has \d+ bytes, its header counts \d+"),
    "too many rows": (lambda header: replace(header, rows=2**40), "3 items, 1099511627776 rows"),
    "more items than rows": (lambda header: replace(header, items=4), "4 items, 3 rows"),
    "more keys": (lambda header: replace(header, key_bytes=2**17), r"its header counts \d+"),
    "too many keys": (lambda header: replace(header, key_bytes=2**60), f"{2**60} bytes of keys"),
    "no buckets": (lambda header: replace(header, bucket_bits=0), "0 bucket bits"),
    "more buckets": (lambda header: replace(header, bucket_bits=32), r"its header counts \d+"),
    "too many buckets": (lambda header: replace(header, bucket_bits=33), "33 bucket bits"),
    "vast tokens": (
        lambda header: replace(header, spec=TokenSpec(2**31, 2**31, "float16")),
        r"tokens of \[2147483648, 2147483648\] are over 268435456 elements",
    ),
    "other sums": (lambda header: replace(header, sums_sum=1), "the sum over its sums does not match"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_header_whose_counts_lie_is_refused(tmp_path: Path, content: bytes, kind: str) -> None:
    lie, message = HEADERS[kind]
    with pytest.raises(StoreError, match=message):
        read_all(put(tmp_path, lie(Header.unpack(content)).pack() + content[BLOCK_BYTES:]))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"RPTOKENZ", "it starts with b'RPTOKENZ', not b'RPTOKENS'"),
        (8, b"\x02\0\0\0", "it is of version 2; this release reads version 1"),
        (12, b"\x09", "sum does not match"),
        (300, b"\x01", None),  # padding
    ],
)
def test_header_of_another_kind_is_refused(
    tmp_path: Path, content: bytes, at: int, value: bytes, message: str | None
) -> None:
    directory = put(tmp_path, content[:at] + value + content[at + len(value) :])
    if message is None:
        assert read_all(directory) == ITEMS
    else:
        with pytest.raises(StoreError, match=message):
            read_all(directory)


def crafted(content: bytes, column: str, at: int, value: int) -> bytes:
    """Sets an element of a column and makes all sums match again, as only who means harm does."""
    header = Header.unpack(content)
    sections = Sections.of(header)
    section = getattr(sections, column)
    changed = bytearray(content)
    place = section.offset + at * section.dtype.itemsize
    changed[place : place + section.dtype.itemsize] = value.to_bytes(section.dtype.itemsize, "little")
    words = np.frombuffer(bytes(changed[sections.checked.offset : sections.sums.offset]), "<u8")
    sums = word_sums(words.reshape(-1, 512))
    changed[sections.sums.offset : sections.sums.offset + sums.nbytes] = sums.tobytes()
    header = replace(header, sums_sum=int(word_sums(sums[None])[0]))
    return header.pack() + bytes(changed[BLOCK_BYTES:])


@pytest.mark.parametrize(
    ("column", "at", "value", "message"),
    [
        ("starts", 0, 2**32 - 1, "has a bucket of"),
        ("starts", 1, 2**32 - 1, "has a bucket of"),
        ("index_rows", 0, 2**32 - 1, "names a row that is not there"),
        ("key_ends", 0, 2**63, "keys of rows 0 to 3 do not follow each other"),
        ("key_ends", 2, 2**40, "keys of rows 0 to 3 do not follow each other"),
        ("keys", 0, 0xFF, "a key is not UTF-8"),
    ],
)
def test_columns_that_lie_under_right_sums_are_told(
    tmp_path: Path, content: bytes, column: str, at: int, value: int, message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        read_all(put(tmp_path, crafted(content, column, at, value)))


def test_row_that_is_corrupt_is_named_and_costs_no_other(tmp_path: Path, content: bytes) -> None:
    changed = bytearray(content)
    changed[BLOCK_BYTES + SPEC.nbytes + 3] ^= 1  # of the second row
    with SnapshotStore.open(put(tmp_path, bytes(changed))) as store:
        namespace = store.namespace(ENCODER)
        for _ in range(2):  # what was found corrupt is not believed the next time
            with pytest.raises(
                StoreError,
                match=r"value of item 'item 2' of encoder a{64} is corrupt: its sum .*; write the snapshot anew",
            ):
                namespace.read(list(ITEMS))
        stored = namespace.read(list(ITEMS), skip_corrupt=True)
        assert stored.places.tolist() == [0, 2]
        assert stored.tokens[:, 0, 0].tolist() == [1, 3]


def test_row_under_the_facts_of_another_is_corrupt(tmp_path: Path, content: bytes) -> None:
    rows = [content[BLOCK_BYTES + SPEC.nbytes * row :][: SPEC.nbytes] for row in range(3)]
    swapped = content[:BLOCK_BYTES] + rows[1] + rows[0] + content[BLOCK_BYTES + 2 * SPEC.nbytes :]
    with SnapshotStore.open(put(tmp_path, swapped)) as store:
        assert store.namespace(ENCODER).read(list(ITEMS), skip_corrupt=True).places.tolist() == [2]
