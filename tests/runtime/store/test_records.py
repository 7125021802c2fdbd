import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.store.records import (
    CorruptValueError,
    check_key,
    pack_value,
    read_header,
    storage_key,
    stored_key,
)
from rankport.runtime.store.token_spec import TokenSpec

SPEC = TokenSpec(1, 2, "float16")
TOKENS = np.array([[1.0, -2.0]], np.float16)
HASH = bytes(range(16))


def test_short_key_has_the_bytes_the_layout_states() -> None:
    assert storage_key("occ0001") == b"\x00occ0001"
    assert storage_key("é" * 255) == b"\x00" + "é".encode() * 255


def test_long_key_has_the_bytes_the_layout_states() -> None:
    digest = bytes.fromhex("c71b0cc0efe82a788811d7e685e0e74b57537f492dcddd4074f935964088b249")
    assert storage_key("k" * 511) == b"\x01" + digest


def test_float16_value_has_the_bytes_the_layout_states() -> None:
    golden = bytes.fromhex(
        "c4c2f60a01010000010000000200000000401e18240a0600000102030405060708090a0b0c0d0e0f003c00c0"
    )
    assert pack_value("occ0001", TOKENS, SPEC, HASH, 1_700_000_000_000_000) == golden


def test_float32_value_of_a_long_key_has_the_bytes_the_layout_states() -> None:
    spec = TokenSpec(1, 2, "float32")
    value = pack_value("k" * 511, TOKENS.astype(np.float32), spec, HASH, -1)
    header = bytes.fromhex("a4601fcb0102ff010100000002000000ffffffffffffffff000102030405060708090a0b0c0d0e0f")
    assert value == header + b"k" * 511 + bytes.fromhex("0000803f000000c0")


@given(
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=600),
    payload=st.binary(min_size=12, max_size=12),
    digest=st.binary(min_size=16, max_size=16),
    written_us=st.integers(-(2**63), 2**63 - 1),
)
def test_what_is_packed_is_read_back(key: str, payload: bytes, digest: bytes, written_us: int) -> None:
    spec = TokenSpec(3, 2, "float16")
    name = storage_key(key)
    assert len(name) <= 511
    tokens = np.frombuffer(payload, np.float16).reshape(3, 2)  # NaN and infinities of all kinds among them
    value = memoryview(pack_value(key, tokens, spec, digest, written_us))
    header = read_header(name, value, spec)
    check_key(key, value, header)
    assert (header.written_us, header.content_hash) == (written_us, digest)
    assert value[header.payload_offset :] == payload
    assert stored_key(name, value, spec) == key


@pytest.mark.parametrize("key", ["item", "k" * 511])
def test_no_flipped_bit_goes_unseen(key: str) -> None:
    value = bytearray(pack_value(key, TOKENS, SPEC, HASH, 7))
    for index in range(len(value)):
        value[index] ^= 1 << index % 8
        with pytest.raises(CorruptValueError):
            read_header(storage_key(key), memoryview(value), SPEC)
        value[index] ^= 1 << index % 8


@pytest.mark.parametrize("key", ["item", "k" * 511])
def test_no_cut_or_padded_value_goes_unseen(key: str) -> None:
    value = pack_value(key, TOKENS, SPEC, HASH, 7)
    for hostile in [value[:size] for size in range(len(value))] + [value + b"\0"]:
        with pytest.raises(CorruptValueError):
            read_header(storage_key(key), memoryview(hostile), SPEC)


def test_value_under_another_key_is_corrupt() -> None:
    value = memoryview(pack_value("one", TOKENS, SPEC, HASH, 7))
    with pytest.raises(CorruptValueError, match="checksum"):
        read_header(storage_key("two"), value, SPEC)


def test_value_of_a_newer_layout_is_named_as_such() -> None:
    value = bytearray(pack_value("one", TOKENS, SPEC, HASH, 7))
    value[4] = 2
    with pytest.raises(CorruptValueError, match="layout version 2; this release reads version 1"):
        read_header(storage_key("one"), memoryview(value), SPEC)


def test_value_of_another_shape_or_type_is_corrupt() -> None:
    value = memoryview(pack_value("one", TOKENS, SPEC, HASH, 7))
    for spec in (TokenSpec(2, 1, "float16"), TokenSpec(1, 1, "float32")):
        with pytest.raises(CorruptValueError, match=r"\[1, 2\] of type code 1"):
            read_header(storage_key("one"), value, spec)


def test_long_key_is_checked_and_not_only_its_hash() -> None:
    value = memoryview(pack_value("k" * 511, TOKENS, SPEC, HASH, 7))
    header = read_header(storage_key("k" * 511), value, SPEC)
    with pytest.raises(CorruptValueError, match="another key"):
        check_key("k" * 512, value, header)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "not empty"),
        (7, "a string"),
        ("\ud800", "UTF-8"),
        ("k" * 65_536, "65536 bytes, the limit is 65535"),
    ],
)
def test_what_is_no_key_is_refused(key: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        storage_key(key)


@pytest.mark.parametrize("fields", [(0, 2, "float16"), (1, -1, "float16"), (1, 2, "int4")])
def test_impossible_spec_is_refused(fields: tuple[int, int, str]) -> None:
    with pytest.raises(StoreError):
        TokenSpec(*fields)
