"""Pages of a store that are checked before LMDB touches them: what is damaged is told, whichever bit of it flipped."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import StoreError
from rankport.runtime.store.entries import TokenEntry
from rankport.runtime.store.lmdb_store.store import LmdbStore
from rankport.runtime.store.token_spec import TokenSpec
from support.effort import scale
from support.token_samples import ENCODER, SPEC, entry

LARGE = TokenSpec(2, 2048, "float16")  # of which an item has pages of its own
PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Makes a store of two encoders, with long keys, and pages that are free again."""
    path = tmp_path_factory.mktemp("whole") / "tokens"
    keys = [f"item {number:04d}" for number in range(900)] + [f"{number}" * 600 for number in range(9)]
    with LmdbStore.open(path, create=True) as store:
        namespace = store.namespace(ENCODER, SPEC, create=True)
        namespace.put_many([entry(key, number) for number, key in enumerate(keys)])
        namespace.delete_many(keys[:300])
        namespace.put_many([entry(key, number) for number, key in enumerate(keys[290:400])])
        large = store.namespace("large", LARGE, create=True)
        tokens = [np.full((2, 2048), number, np.float16) for number in range(12)]
        large.put_many([TokenEntry(key, each, bytes(16)) for key, each in zip(keys, tokens, strict=False)])
        large.delete_many(keys[:5])
    return (path / "data.mdb").read_bytes()


def write(path: Path, content: bytes) -> Path:
    path.mkdir(exist_ok=True)
    (path / "data.mdb").write_bytes(content)
    return path


def contents(path: Path) -> list[tuple[list[str], bytes]]:
    """Opens a store with a check, and reads all that it has."""
    found = []
    with LmdbStore.open(path, read_only=True, check=True) as store:
        for fingerprint in store.fingerprints():
            keys = sorted(store.namespace(fingerprint).keys())
            found.append((keys, store.namespace(fingerprint).read(keys).tokens.tobytes()))
    return found


def kind(content: bytes, number: int) -> int:
    return int(struct.unpack_from("<H", content, number * PAGE + 10)[0])


def last_of(content: bytes, wanted: int) -> int:
    return max(number for number in range(2, len(content) // PAGE) if kind(content, number) == wanted)


def swapped(content: bytes) -> bytes:
    one, other = [number for number in range(2, len(content) // PAGE) if kind(content, number) == 2][-2:]
    changed = bytearray(content)
    changed[one * PAGE : (one + 1) * PAGE], changed[other * PAGE : (other + 1) * PAGE] = (
        content[other * PAGE : (other + 1) * PAGE],
        content[one * PAGE : (one + 1) * PAGE],
    )
    return bytes(changed)


def with_zeros(content: bytes, wanted: int) -> bytes:
    number = last_of(content, wanted)
    return content[: number * PAGE] + bytes(PAGE) + content[(number + 1) * PAGE :]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (swapped, "is another page"),
        (lambda content: with_zeros(content, 1), "is another page"),
        (lambda content: with_zeros(content, 4), "is another page"),
    ],
    ids=["swapped", "branch of zeros", "value of zeros"],
)
def test_a_page_that_is_not_what_was_written_is_told(
    tmp_path: Path, whole: bytes, damage: Callable[[bytes], bytes], told: str
) -> None:
    path = write(tmp_path / "tokens", damage(whole))
    with pytest.raises(StoreError, match=rf"the pages of data\.mdb are damaged \(page \d+ {told}\): copy it"):
        LmdbStore.open(path, read_only=True, check=True)


def test_a_bit_that_flips_is_told_or_changes_nothing(tmp_path: Path, whole: bytes) -> None:
    chance, path = random.Random(7), tmp_path / "tokens"
    wanted, told = contents(write(path, whole)), 0
    for _ in range(scale(20)):
        page = chance.randrange(len(whole) // PAGE)
        place = page * PAGE + chance.choice([chance.randrange(16), chance.randrange(16, 90)])
        content = bytearray(whole)
        content[place] ^= 1 << chance.randrange(8)
        try:
            assert contents(write(path, bytes(content))) == wanted, (page, place % PAGE)
        except StoreError:
            told += 1
    assert told


def test_a_store_that_is_written_to_meanwhile_is_checked(tmp_path: Path) -> None:
    with LmdbStore.open(tmp_path / "tokens", create=True, check=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a")])
    with LmdbStore.open(tmp_path / "tokens", check=True) as store:
        store.namespace(ENCODER).put_many([entry("b")])
