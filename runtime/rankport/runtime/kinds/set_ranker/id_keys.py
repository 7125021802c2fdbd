"""Keys of a table, memory-mapped: the ids that owners have, 64 bits each, and the row of each.

Keys lie in the order of their hashes, and a start a bucket says where the hashes of equal first bits begin. An id is
looked for from there on, a read or two that wait for nothing else, where a binary search of 10 M keys has 24 in turn;
ids may be dense, in order or random alike. A file is a header of 64 bytes (magic, keys, bits of a bucket, keys of the
fullest one), the keys as int64, their rows as uint32, and the starts as uint32. All little-endian.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BundleError
from rankport.runtime.kinds.set_ranker.file_parts import mapped, read_here_and_there

MAGIC: Final = b"RPKEYS01"
ABSENT: Final = -1
"""Row of an id that is no key."""
_HEADER = struct.Struct("<8sQII40x")  # magic, keys, bits, longest
_KEY, _ROW = np.dtype("<i8"), np.dtype("<u4")
_MOST_BITS = 32

Ids = NDArray[np.int64]
Rows = NDArray[np.int64]


def key_file_bytes(keys: Ids, rows: Rows) -> bytes:
    """Writes the file of keys [keys], all different, unsigned ones by their bits, and the row of each."""
    hashes = splitmix64(keys.view(np.uint64))
    order = np.argsort(hashes)
    assert not (np.diff(hashes[order]) == 0).any(), "keys are different, and so are their hashes"
    bits = _bits(len(keys))
    filled = np.bincount(_buckets(hashes, bits), minlength=1 << bits)
    starts = np.cumsum(filled) - filled
    header = _HEADER.pack(MAGIC, len(keys), bits, int(filled.max()))
    parts = (keys[order].astype(_KEY), rows[order].astype(_ROW), starts.astype(_ROW))
    return header + b"".join(part.tobytes() for part in parts)


@dataclass(frozen=True, slots=True)
class IdKeys:
    """Keys of one table, mapped from their file. Any thread may look ids up."""

    keys: Ids  # [keys], mapped, in the order of their hashes
    rows: NDArray[np.uint32]  # [keys], mapped
    starts: NDArray[np.uint32]  # [buckets], mapped
    longest: int  # keys of the fullest bucket

    @classmethod
    def open(cls, path: Path, count: int, rows: int) -> Self:
        """Maps a file of `count` keys of a table of `rows` rows. Raises BundleError where it is another one."""
        with path.open("rb") as stream:
            head = stream.read(_HEADER.size)
            size = stream.seek(0, 2)
        magic, stated, bits, longest = _HEADER.unpack(head.ljust(_HEADER.size, b"\0"))
        if (magic, stated, bits) != (MAGIC, count, _bits(count)) or not 0 < longest <= count:
            raise BundleError(
                f"{path.name}: is no file of {count} keys, which the manifest says: copy it again"
            )
        end = _HEADER.size + count * (_KEY.itemsize + _ROW.itemsize) + (_ROW.itemsize << bits)
        if size != end:
            raise BundleError(f"{path.name}: has {size} bytes, its header says {end}: copy it again")
        file = mapped(path)
        places = _HEADER.size + count * _KEY.itemsize
        opened = cls(
            keys=np.frombuffer(file, _KEY, count, _HEADER.size),
            rows=np.frombuffer(file, _ROW, count, places),
            starts=np.frombuffer(file, _ROW, 1 << bits, places + count * _ROW.itemsize),
            longest=longest,
        )
        if opened.rows.max() >= rows or opened.starts.max() > count:
            raise BundleError(f"{path.name}: names a row or a key behind the last one: copy it again")
        read_here_and_there(file)
        return opened

    def find(self, ids: Ids) -> Rows:
        """Finds the rows of ids, `ABSENT` where one is no key. [ids]"""
        at = self.starts.take(_buckets(splitmix64(ids.view(np.uint64)), _bits(len(self.keys)))).astype(
            np.int64
        )
        sought = np.arange(len(ids))
        for _ in range(self.longest):
            sought = sought[self.keys.take(at[sought], mode="clip") != ids[sought]]
            if not len(sought):
                break
            at[sought] += 1
        rows = self.rows.take(at, mode="clip").astype(np.int64)
        rows[sought] = ABSENT
        return rows


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hashes as the finalizer of SplitMix64 does (Steele, Lea, Flood 2014), its increment added first."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _bits(count: int) -> int:
    """Counts the bits that name a bucket: two to four keys each, where there are many."""
    return min(max(1, (count - 1).bit_length() - 2), _MOST_BITS)


def _buckets(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.int64]:
    """Names the bucket of each hash by its first bits."""
    return (hashes >> np.uint64(64 - bits)).astype(np.int64)
