"""Tables of embeddings by id, memory-mapped: their files, how an id finds its row, and rows as float32.

A file is a header of 64 bytes (magic, rows, width, type of the values), for int8 the scale of each row as float32,
padded to 64 bytes, and the rows. All little-endian.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BundleError, InvalidRequest, Unavailable
from rankport.runtime.backends.layouts.row_slots import ZEROS
from rankport.runtime.backends.mapped_files import MappedFiles
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.sets import IdTable, RowType

MAGIC: Final = b"RPROWS01"
_HEADER = struct.Struct("<8sQII40x")  # magic, rows, width, type
_TYPES: dict[RowType, np.dtype[np.generic]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "int8": np.dtype("i1"),
}
_CODES: dict[RowType, int] = {"float32": 1, "float16": 2, "int8": 3}


def row_file_bytes(rows: NDArray[np.generic], scales: NDArray[np.float32] | None = None) -> bytes:
    """Writes the file of rows [rows, width], float32, float16 or int8; of int8 with scales [rows]."""
    dtype = next(name for name, known in _TYPES.items() if known == rows.dtype)
    assert (scales is not None) == (dtype == "int8"), dtype
    header = _HEADER.pack(MAGIC, rows.shape[0], rows.shape[1], _CODES[dtype])
    scaled = b"" if scales is None else _padded(scales.astype("<f4").tobytes())
    return header + scaled + np.ascontiguousarray(rows).tobytes()


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows of one table, mapped from its file: nothing is read before it is asked for."""

    policy: IdTable
    name: str
    values: NDArray[np.generic]  # [rows, width], mapped
    scales: NDArray[np.float32] | None  # [rows], mapped; of int8

    @classmethod
    def open(cls, path: Path, name: str, policy: IdTable, dtype: RowType) -> Self:
        """Maps a file. Raises BundleError where it is not what the manifest says."""
        with path.open("rb") as stream:
            head = stream.read(_HEADER.size)
            size = stream.seek(0, 2)
        expected = (MAGIC, policy.rows, policy.width, _CODES[dtype])
        if len(head) < _HEADER.size or _HEADER.unpack(head) != expected:
            raise BundleError(
                f"{path.name}: is no table of {policy.rows} x {policy.width} {dtype}, which the manifest says: copy "
                "it again"
            )
        scales, start = None, _HEADER.size
        if dtype == "int8":
            start += _padded_size(4 * policy.rows)
        end = start + policy.rows * policy.width * _TYPES[dtype].itemsize
        if size != end:
            raise BundleError(f"{path.name}: has {size} bytes, its header says {end}: copy it again")
        mapped = _mapped(path)
        if dtype == "int8":
            scales = np.frombuffer(mapped, "<f4", policy.rows, _HEADER.size)
        values = np.frombuffer(mapped, _TYPES[dtype], policy.rows * policy.width, start)
        return cls(policy, name, values.reshape(policy.rows, policy.width), scales)

    def gather(self, ids: NDArray[np.int64], where: str) -> NDArray[np.float32]:
        """Reads the rows of ids. [ids, width] Raises InvalidRequest for an unknown id where the policy refuses it."""
        places = self.places(ids, where)
        values, scales = self.read(places)
        rows = values.astype(np.float32)
        if scales is not None:
            rows *= scales[:, None]
        if self.policy.unknown == "zero":
            rows[places == ZEROS] = 0
        return rows

    def read(self, places: NDArray[np.int64]) -> tuple[NDArray[np.generic], NDArray[np.float32] | None]:
        """Reads rows [places, width] in the type of the file, and of int8 their scales [places]."""
        return self.values[places], None if self.scales is None else self.scales[places]

    def places(self, ids: NDArray[np.int64], where: str) -> NDArray[np.int64]:
        """Finds the rows of ids, `ZEROS` where one counts as zeros. Raises as `gather`. [ids]"""
        rows = self.policy.rows
        if self.policy.lookup == "splitmix64":
            hashed = splitmix64(ids.astype(np.uint64) ^ np.uint64(self.policy.seed)) % np.uint64(rows)
            return hashed.astype(np.int64)
        unknown = (ids < 0) | (ids >= rows)
        if not unknown.any():
            return ids
        if self.policy.unknown == "refuse":
            place = int(unknown.argmax())
            raise InvalidRequest(
                f"{where}[{place}] is the id {ids[place]}, and table {self.name!r} has {rows} rows: leave it out, or "
                "export with another policy for unknown ids"
            )
        return np.where(unknown, ZEROS if self.policy.shared_row is None else self.policy.shared_row, ids)


@dataclass(frozen=True, slots=True)
class RowTables:
    """Tables of a bundle, and their files, which are closed with the last that refers to them.

    Any thread may read. Implements `StoredRows`.
    """

    tables: Mapping[str, RowTable]
    files: MappedFiles

    @classmethod
    def open(cls, bundle: Bundle) -> Self:
        """Maps a bundle's tables. Raises as `RowTable.open` and `MappedFiles`."""
        sets = bundle.manifest.sets
        assert sets is not None
        names = {table.file for table in sets.files.values()}
        files = MappedFiles(bundle.path, [entry for entry in bundle.manifest.files if entry.path in names])
        tables = {
            name: RowTable.open(bundle.file(table.file), name, sets.tables[name], table.dtype)
            for name, table in sets.files.items()
        }
        files.check_opened()
        return cls(tables, files)

    def read(
        self, table: str, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.generic], NDArray[np.float32] | None]:
        """See `StoredRows.read`."""
        self.check_files()
        rows = self.tables[table].read(places)
        self.check_files()  # what was written meanwhile may be in them
        return rows

    def check_files(self) -> None:
        """Raises Unavailable where a file was written over or cut since it was opened."""
        if told := self.files.changed():
            raise Unavailable(f"{told}; load the model again")


def _mapped(path: Path) -> mmap.mmap:
    """Maps a file, which rows are read of here and there: what lies beside one is of no use."""
    with path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    return mapped


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hashes as the finalizer of SplitMix64 does (Steele, Lea, Flood 2014), its increment added first."""
    with np.errstate(over="ignore"):
        mixed = values + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _padded_size(size: int) -> int:
    return -(-size // 64) * 64


def _padded(data: bytes) -> bytes:
    return data.ljust(_padded_size(len(data)), b"\0")
