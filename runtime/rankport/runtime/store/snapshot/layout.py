"""Layout of a snapshot file: what lies where, by the counts in its header. docs/stores.md is the same in prose.

Owns the header's bytes, the places of the sections, and the digests and sums in them. It reads no file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from struct import Struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import StoreError
from rankport.runtime.store.token_spec import TokenSpec, encoded_key

MAGIC: Final = b"RPTOKENS"
VERSION: Final = 1
BLOCK_BYTES: Final = 4096
BLOCK_WORDS: Final = BLOCK_BYTES // 8
MAX_ROWS: Final = 2**32 - 1
MAX_BUCKET: Final = 1024
WORD: Final = np.dtype("<u8")
NUMBER: Final = np.dtype("<u4")
FACTS: Final = np.dtype([("content_hash", "V16"), ("written_us", "<i8"), ("sum", "<u8")])

_DTYPES = {1: "float16", 2: "float32", 3: "int8"}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_HEADER = Struct("<8sIBBHIIQQQqQ128s")
_SUM = Struct("<Q")
_HEADER_BYTES = 256
_MAX_ELEMENTS = 2**28
_HEAD_WORDS = 5  # of a row's sum, before its tokens


class LayoutError(ValueError):
    """Break of the layout by a file: the message says how."""


@dataclass(frozen=True, slots=True)
class Section:
    """Column of a file."""

    offset: int  # bytes from the start of the file, a multiple of `BLOCK_BYTES`
    count: int
    dtype: np.dtype[np.generic]

    @property
    def end(self) -> int:
        """Offset behind its last byte and its padding."""
        return _padded(self.offset + self.count * self.dtype.itemsize)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Header of a file, which decides all places in it."""

    fingerprint: str
    spec: TokenSpec
    rows: int
    items: int  # at most the rows: one whose key comes again behind it counts no more
    key_bytes: int
    bucket_bits: int
    written_us: int
    sums_sum: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes from one row of tokens to the next."""
        return -(-self.spec.nbytes // 8) * 8

    def pack(self) -> bytes:
        """Writes the header as the first block of a file."""
        spec, name = self.spec, self.fingerprint.encode()
        counts = self.rows, self.items, self.key_bytes, self.written_us, self.sums_sum
        code, bits = _CODES[spec.dtype], self.bucket_bits
        fields = _HEADER.pack(
            MAGIC, VERSION, code, bits, len(name), spec.tokens, spec.hidden_size, *counts, name
        )
        body = fields.ljust(_HEADER_BYTES - _SUM.size, b"\0")
        return (body + _SUM.pack(sum_of(body))).ljust(BLOCK_BYTES, b"\0")

    @classmethod
    def unpack(cls, block: bytes) -> "Header":
        """Reads the first block of a file. Raises `LayoutError`."""
        if len(block) < BLOCK_BYTES:
            raise LayoutError(f"it has {len(block)} bytes, fewer than its header")
        magic, version, code, bits, name_bytes, tokens, hidden, *counts, name = _HEADER.unpack_from(block)
        if magic != MAGIC:
            raise LayoutError(f"it starts with {magic!r}, not {MAGIC!r}")
        if version != VERSION:
            raise LayoutError(f"it is of version {version}; this release reads version {VERSION}")
        body = block[: _HEADER_BYTES - _SUM.size]
        if _SUM.unpack_from(block, len(body))[0] != sum_of(body):
            raise LayoutError("its header's sum does not match")
        rows, items, key_bytes, written_us, sums_sum = counts
        if not 1 <= bits <= 32 or not items <= rows <= MAX_ROWS or key_bytes > rows * 2**16:
            raise LayoutError(f"{items} items, {rows} rows, {key_bytes} bytes of keys, {bits} bucket bits")
        if tokens * hidden > _MAX_ELEMENTS:
            raise LayoutError(f"tokens of [{tokens}, {hidden}] are over {_MAX_ELEMENTS} elements")
        try:
            spec = TokenSpec(tokens, hidden, _DTYPES.get(code, f"code {code}"))
            fingerprint = name[:name_bytes].decode("ascii")
        except (StoreError, UnicodeDecodeError) as error:
            raise LayoutError(str(error)) from error
        return cls(
            fingerprint=fingerprint,
            spec=spec,
            rows=rows,
            items=items,
            key_bytes=key_bytes,
            bucket_bits=bits,
            written_us=written_us,
            sums_sum=sums_sum,
        )


@dataclass(frozen=True, slots=True)
class Sections:
    """Places of all columns, in their order in the file."""

    tokens: Section
    facts: Section
    key_ends: Section
    keys: Section
    firsts: Section
    seconds: Section
    index_rows: Section
    starts: Section
    sums: Section
    total_bytes: int = field(init=False)

    @classmethod
    def of(cls, header: Header) -> "Sections":
        """Lays out what a header counts."""
        columns = (
            (header.rows, np.dtype((np.void, header.row_bytes))),
            (header.rows, FACTS),
            (header.rows, WORD),
            (header.key_bytes, np.dtype("u1")),
            (header.items, WORD),
            (header.items, WORD),
            (header.items, NUMBER),
            (2**header.bucket_bits + 1, NUMBER),
        )
        tokens, facts, key_ends, keys, firsts, seconds, index_rows, starts = _laid_out(BLOCK_BYTES, columns)
        sums = Section(starts.end, (starts.end - facts.offset) // BLOCK_BYTES, WORD)
        return cls(tokens, facts, key_ends, keys, firsts, seconds, index_rows, starts, sums)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total_bytes", self.sums.end)

    @property
    def checked(self) -> Section:
        """Words of all that the block sums are taken over: from the facts to the starts."""
        return Section(self.facts.offset, (self.sums.offset - self.facts.offset) // 8, WORD)


def _laid_out(offset: int, columns: Iterable[tuple[int, "np.dtype[np.generic]"]]) -> Iterable[Section]:
    for count, dtype in columns:
        section = Section(offset, count, dtype)
        yield section
        offset = section.end


def key_digests(keys: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes item keys: BLAKE2b of 16 bytes, as two little-endian numbers. [keys, 2]

    Raises:
        InvalidRequest: something is not an item key.
    """
    try:
        names = [key.encode() for key in keys]
    except (AttributeError, UnicodeEncodeError):
        names = []
    if len(names) < len(keys) or not all(names) or max(map(len, names), default=0) > 2**15:
        names = [encoded_key(key) for key in keys]  # says which is no key
    digests = b"".join([blake2b(name, digest_size=16).digest() for name in names])
    return np.frombuffer(digests, WORD).reshape(len(keys), 2)


def word_sums(words: NDArray[np.uint64], first: int = 0) -> NDArray[np.uint64]:
    """Sums rows of words, the first of which is number `first` of all that the sum is over. [rows, n] -> [rows]"""
    mixed = words ^ (words >> np.uint64(32))
    sums: NDArray[np.uint64] = np.einsum("ij,j->i", mixed, _weights(first + words.shape[1])[first:])
    return sums


def row_sums(
    digests: NDArray[np.uint64], facts: NDArray[np.void], tokens: NDArray[np.uint8]
) -> NDArray[np.uint64]:
    """Sums rows: digest, content hash, write time, tokens with their padding. [rows, 2], [rows], [rows, row_bytes]"""
    said = np.ascontiguousarray(facts).view(WORD).reshape(len(facts), 4)[:, :3]
    head = word_sums(np.concatenate([digests, said], axis=1))
    return head + word_sums(tokens.view(WORD), _HEAD_WORDS)


def sum_of(content: bytes) -> int:
    """Sums bytes, a multiple of 8."""
    return int(word_sums(np.frombuffer(content, WORD)[None])[0])


def bucket_bits(items: int) -> int:
    """Chooses how many bits of a digest name its bucket: one item in a bucket, or half of one."""
    return max(1, items.bit_length())


@cache
def _weights(count: int) -> NDArray[np.uint64]:
    """Makes odd weights: outputs 1, 2, … of SplitMix64 from state 0, with the lowest bit set."""
    with np.errstate(over="ignore"):
        state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        weights = (state ^ (state >> np.uint64(31))) | np.uint64(1)
    weights.setflags(write=False)
    return weights


def _padded(offset: int) -> int:
    return -(-offset // BLOCK_BYTES) * BLOCK_BYTES
