"""Keys of tables: whatever ids an owner has find their rows, others none, and ten millions open at once."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rankport.protos.errors import BundleError
from rankport.runtime.kinds.set_ranker.id_keys import IdKeys, key_file_bytes, splitmix64
from support.effort import scale
from support.sets.private_memory import private_bytes

KEYS = np.array([7, -1, 2**62, -(2**63)], np.int64)
ROWS = np.array([3, 0, 9, 2], np.int64)
IDS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(-8, 64), st.integers(0, 40).map(lambda n: n << 42)
)


def opened(folder: Path, content: bytes, count: int = 4, rows: int = 10) -> IdKeys:
    file = folder / "item.keys"
    file.write_bytes(content)
    return IdKeys.open(file, count, rows)


@settings(max_examples=scale(50))
@given(st.sets(IDS, min_size=1, max_size=300), st.lists(IDS, max_size=40), st.integers(0, 2**32 - 301))
@example(set(range(-5, 3000)), [-6, 3000, 2**63 - 1], 0)
def test_every_key_has_its_row_and_no_other_id_has_one(
    tmp_path_factory: pytest.TempPathFactory, keys: set[int], others: list[int], first: int
) -> None:
    rows = {key: first + place for place, key in enumerate(sorted(keys, key=hash))}
    content = key_file_bytes(np.array(list(rows), np.int64), np.array(list(rows.values()), np.int64))
    found = opened(tmp_path_factory.getbasetemp(), content, len(rows), 2**32)
    asked = np.array([*others, *rows, *others], np.int64)
    assert found.find(asked).tolist() == [rows.get(key, -1) for key in asked.tolist()]
    assert found.find(asked[:0]).tolist() == []


def test_the_file_is_as_the_format_says(tmp_path: Path) -> None:
    """Golden: a header, keys in the order of their hashes, their rows, and where each bucket starts."""
    content = key_file_bytes(KEYS, ROWS)
    order = sorted(range(4), key=lambda place: int(splitmix64(KEYS.view(np.uint64))[place]))
    assert [int(splitmix64(KEYS.view(np.uint64))[place]) >> 63 for place in order] == [0, 0, 0, 1]
    assert content == (
        struct.pack("<8sQII40x", b"RPKEYS01", 4, 1, 3)
        + KEYS[order].astype("<i8").tobytes()
        + ROWS[order].astype("<u4").tobytes()
        + np.array([0, 3], "<u4").tobytes()
    )
    assert opened(tmp_path, content).find(KEYS).tolist() == ROWS.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no file of 4 keys"),
        (b"RPKEYS01", "is no file of 4 keys"),
        (key_file_bytes(KEYS[:3], ROWS[:3]), "is no file of 4 keys"),
        (b"RPROWS01" + key_file_bytes(KEYS, ROWS)[8:], "is no file of 4 keys"),
        (
            key_file_bytes(KEYS, ROWS)[:20] + b"\0\0\0\0" + key_file_bytes(KEYS, ROWS)[24:],
            "is no file of 4 keys",
        ),
        (
            key_file_bytes(KEYS, ROWS)[:20] + b"\5\0\0\0" + key_file_bytes(KEYS, ROWS)[24:],
            "is no file of 4 keys",
        ),
        (key_file_bytes(KEYS, ROWS)[:-1], r"has 119 bytes, its header says 120"),
        (key_file_bytes(KEYS, ROWS + 1), "names a row or a key behind the last one"),
        (key_file_bytes(KEYS, ROWS)[:-4] + b"\5\0\0\0", "names a row or a key behind the last one"),
    ],
)
def test_another_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=rf"item\.keys: {message}.*: copy it again"):
        opened(tmp_path, content)


def test_ten_million_keys_open_at_once_and_cost_no_private_memory(tmp_path: Path) -> None:
    count, bits = 10_000_000, 22
    file = tmp_path / "big.keys"
    with file.open("wb") as stream:
        stream.write(struct.pack("<8sQII40x", b"RPKEYS01", count, bits, 1))
        stream.truncate(64 + 12 * count + (4 << bits))  # a hole: all keys are 0
    before, begun_s = private_bytes(), time.process_time()
    keys = IdKeys.open(file, count, count)
    assert time.process_time() - begun_s < 1
    assert keys.find(np.arange(2048)).tolist() == [0, *[-1] * 2047]
    assert private_bytes() - before < 8 * 2**20
