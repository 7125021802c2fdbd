"""Bytes of a token store: how an item key and its tokens lie in LMDB, and the value in Redis. Pure functions, no I/O.

Storage key
    byte 0x00 and the key in UTF-8, where that is at most 510 bytes (LMDB's limit is 511 in all);
    byte 0x01 and the 32-byte BLAKE2b of the key in UTF-8, where it is longer. The value then repeats the key.

Value, little-endian, 40 bytes of header
    offset  type      field
    0       uint32    CRC-32 (zlib) of the storage key followed by this value from offset 4
    4       uint8     layout version, 1
    5       uint8     element type: 1 float16, 2 float32, 3 int8 with scales
    6       uint16    b, bytes of the repeated key; 0 for a short key
    8       uint32    tokens, k
    12      uint32    hidden size, d
    16      int64     write time, microseconds since 1970-01-01 UTC
    24      byte[16]  content hash
    40      byte[b]   the key in UTF-8, if it is long
    40 + b  the tokens, as `token_spec` has their bytes, to the end of the value

The CRC covers the storage key, so a value that ended up under another key is corrupt too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.store.token_spec import TokenSpec, encoded_key

LAYOUT_VERSION = 1

_DTYPE_CODES = {"float16": 1, "float32": 2, "int8": 3}
_HEADER = Struct("<IBBHIIq16s")
_HEADERS = np.dtype(
    [
        ("crc", "<u4"),
        ("version", "u1"),
        ("dtype", "u1"),
        ("key_bytes", "<u2"),
        ("tokens", "<u4"),
        ("hidden_size", "<u4"),
        ("written_us", "<i8"),
        ("content_hash", "V16"),
    ]
)
_CRC_BYTES = 4
_MARK = slice(16, 40)
_SHORT, _LONG = b"\x00", b"\x01"
_MAX_SHORT_KEY_BYTES = 510


class CorruptValueError(ValueError):
    """Break of the layout by a stored value: the message says how. The store turns it into a `StoreError`."""


@dataclass(frozen=True, slots=True)
class ValueHeader:
    """Header of a checked value: what it says beside its tokens."""

    payload_offset: int  # bytes
    key_bytes: int
    written_us: int
    content_hash: bytes  # [16]


def storage_key(key: str) -> bytes:
    """Writes the bytes that name `key` in a store.

    Raises:
        InvalidRequest: the key is not a string, empty, not encodable as UTF-8, or longer than 65,535 bytes.
    """
    encoded = encoded_key(key)
    if len(encoded) <= _MAX_SHORT_KEY_BYTES:
        return _SHORT + encoded
    return _LONG + blake2b(encoded, digest_size=32).digest()


def storage_keys(keys: Sequence[str]) -> list[bytes]:
    """Returns the storage key of each key; raises as `storage_key`."""
    try:
        names = [_SHORT + key.encode() for key in keys]
    except (AttributeError, UnicodeEncodeError):  # the loop says which is no key
        return [storage_key(key) for key in keys]
    lengths = set(map(len, names))
    if lengths and min(lengths) > 1 and max(lengths) <= _MAX_SHORT_KEY_BYTES + 1:
        return names
    return [storage_key(key) for key in keys]


def pack_value(
    key: str, tokens: NDArray[np.floating], spec: TokenSpec, content_hash: bytes, written_us: int
) -> bytes:
    """Writes the value of one item; `tokens` [k, hidden] must already be of `spec`'s shape and dtype."""
    name = storage_key(key)
    repeated = encoded_key(key) if name.startswith(_LONG) else b""
    header = (LAYOUT_VERSION, _DTYPE_CODES[spec.dtype], len(repeated), spec.tokens, spec.hidden_size)
    payload = spec.pack(tokens[None]).tobytes()
    body = _HEADER.pack(0, *header, written_us, content_hash)[_CRC_BYTES:] + repeated + payload
    return crc32(body, crc32(name)).to_bytes(_CRC_BYTES, "little") + body


def read_header(name: bytes, value: memoryview, spec: TokenSpec) -> ValueHeader:
    """Reads the header of the value stored under storage key `name`, checked down to its last byte.

    Raises:
        CorruptValueError: a wrong size, layout version, checksum, or shape.
    """
    if len(value) < _HEADER.size:
        raise CorruptValueError(f"{len(value)} bytes, shorter than the {_HEADER.size}-byte header")
    crc, version, dtype, key_bytes, tokens, hidden, written_us, digest = _HEADER.unpack_from(value)
    if version != LAYOUT_VERSION:
        raise CorruptValueError(f"layout version {version}; this release reads version {LAYOUT_VERSION}")
    if crc32(value[_CRC_BYTES:], crc32(name)) != crc:
        raise CorruptValueError("the checksum does not match")
    if (dtype, tokens, hidden) != (_DTYPE_CODES[spec.dtype], spec.tokens, spec.hidden_size):
        raise CorruptValueError(f"[{tokens}, {hidden}] of type code {dtype}, where the namespace has {spec}")
    offset = _HEADER.size + key_bytes
    if len(value) != offset + spec.nbytes:
        raise CorruptValueError(f"{len(value)} bytes, where {spec} takes {offset + spec.nbytes}")
    return ValueHeader(offset, key_bytes, written_us, digest)


def read_tokens(
    names: Sequence[bytes], values: Sequence[memoryview], spec: TokenSpec
) -> NDArray[np.floating] | None:
    """Reads the tokens of values stored under short keys, copied, [values, k, hidden] read-only.

    None if one of them is damaged or repeats a long key: `read_header` says what is the matter with which.
    """
    size = _HEADER.size + spec.nbytes
    joined = b"".join(values)
    if len(joined) != size * len(values) or not set(map(len, values)) <= {size}:
        return None
    rows = np.frombuffer(joined, np.uint8).reshape(len(values), size)
    headers = np.ascontiguousarray(rows[:, : _HEADER.size]).view(_HEADERS)[:, 0]
    stated = {
        "version": LAYOUT_VERSION,
        "dtype": _DTYPE_CODES[spec.dtype],
        "key_bytes": 0,
        "tokens": spec.tokens,
        "hidden_size": spec.hidden_size,
    }
    if any((headers[field] != value).any() for field, value in stated.items()):
        return None
    view = memoryview(joined)
    bodies = (view[end - size + _CRC_BYTES : end] for end in range(size, len(joined) + 1, size))
    sums = [crc32(body, crc32(name)) for name, body in zip(names, bodies, strict=True)]
    if headers["crc"].tolist() != sums:
        return None
    tokens = spec.unpack(rows[:, _HEADER.size :])
    tokens.setflags(write=False)
    return tokens


def write_mark(value: memoryview) -> bytes:
    """Reads write time and content hash of a value, unchecked: they differ where it was written anew."""
    return bytes(value[_MARK])


def stored_key(name: bytes, value: memoryview, spec: TokenSpec) -> str:
    """Reads the item key of a storage key and its value.

    Raises:
        CorruptValueError: a long key's value is damaged, or the bytes are not a key of this layout.
    """
    if name.startswith(_SHORT):
        encoded = name[1:]
    else:
        header = read_header(name, value, spec)
        encoded = bytes(value[_HEADER.size : _HEADER.size + header.key_bytes])
    try:
        return encoded.decode()
    except UnicodeDecodeError as error:
        raise CorruptValueError(f"its key is not UTF-8: {encoded[:40]!r}") from error


def check_key(key: str, value: memoryview, header: ValueHeader) -> None:
    """Makes sure that a value found under the hash of a long key belongs to that very key.

    Raises:
        CorruptValueError: it belongs to another.
    """
    if header.key_bytes and value[_HEADER.size : header.payload_offset] != encoded_key(key):
        raise CorruptValueError("it repeats another key than the one whose hash found it")
