"""Tables of embeddings by id, memory-mapped: their files, how an id finds its row, and rows as float32.

A file is a header of 64 bytes (magic, rows, width, type of the values), for int8 the scale of each row as float32,
padded to 64 bytes, and the rows. All little-endian.
"""

import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BundleError, InvalidRequest, Unavailable
from rankport.runtime.backends.layouts.row_slots import ZEROS
from rankport.runtime.backends.mapped_files import MappedFiles
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.sections.sets import IdTable, RowType
from rankport.runtime.kinds.capabilities import IdCounts
from rankport.runtime.kinds.set_ranker.file_parts import mapped, padded, padded_size, read_here_and_there
from rankport.runtime.kinds.set_ranker.id_keys import ABSENT, IdKeys, splitmix64

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
    scaled = b"" if scales is None else padded(scales.astype("<f4").tobytes())
    return header + scaled + np.ascontiguousarray(rows).tobytes()


class IdCounter:
    """Count of the ids that a table was asked for. Any thread may add to it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._counts = IdCounts()

    def add(self, asked: int, unknown: int) -> None:
        """Counts ids, of which some have no row."""
        with self._turn:
            before = self._counts
            self._counts = IdCounts(before.found + asked - unknown, before.unknown + unknown)

    def counts(self) -> IdCounts:
        """Returns a snapshot."""
        return self._counts


@dataclass(frozen=True, slots=True)
class RowTable:
    """Rows of one table, mapped from its file: nothing is read before it is asked for."""

    policy: IdTable
    name: str
    values: NDArray[np.generic]  # [rows, width], mapped
    scales: NDArray[np.float32] | None  # [rows], mapped; of int8
    keys: IdKeys | None = None  # of lookup `keys`
    asked: IdCounter = field(default_factory=IdCounter)

    @classmethod
    def open(
        cls, path: Path, name: str, policy: IdTable, dtype: RowType, keys_path: Path | None = None
    ) -> Self:
        """Maps a file, and that of its keys. Raises BundleError where one is not what the manifest says."""
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
            start += padded_size(4 * policy.rows)
        end = start + policy.rows * policy.width * _TYPES[dtype].itemsize
        if size != end:
            raise BundleError(f"{path.name}: has {size} bytes, its header says {end}: copy it again")
        file = mapped(path)
        read_here_and_there(file)
        if dtype == "int8":
            scales = np.frombuffer(file, "<f4", policy.rows, _HEADER.size)
        values = np.frombuffer(file, _TYPES[dtype], policy.rows * policy.width, start)
        keys = None if keys_path is None else IdKeys.open(keys_path, policy.key_count, policy.rows)
        return cls(policy, name, values.reshape(policy.rows, policy.width), scales, keys)

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
        """Finds the rows of ids, unsigned ones by their bits, `ZEROS` where one counts as zeros. [ids]

        Raises as `gather`.
        """
        found = self._found(ids)
        unknown = found == ABSENT
        count = int(np.count_nonzero(unknown))
        self.asked.add(len(ids), count)
        if not count:
            return found
        if self.policy.unknown == "refuse":
            raise InvalidRequest(self._refusal(ids, unknown, where))
        return np.where(unknown, ZEROS if self.policy.shared_row is None else self.policy.shared_row, found)

    def some_id(self) -> NDArray[np.int64] | NDArray[np.uint64]:
        """Gives an id that has a row. [1]"""
        return as_owned(np.zeros(1, np.int64) if self.keys is None else self.keys.keys[:1], self.policy)

    def _found(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Finds the rows of ids, `ABSENT` where there is none."""
        match self.policy.lookup:
            case "keys":
                assert self.keys is not None, self.name
                return self.keys.find(ids)
            case "modulo" | "splitmix64":
                return hashed_rows(ids, self.policy)
            case "direct":
                outside = ids.view(np.uint64) >= self.policy.rows  # as negative ids are, too
                return np.where(outside, ABSENT, ids) if outside.any() else ids

    def _refusal(self, ids: NDArray[np.int64], unknown: NDArray[np.bool_], where: str) -> str:
        """Tells the first of the ids that have no row, and how many more there are."""
        place, others = int(unknown.argmax()), int(unknown.sum()) - 1
        given = as_owned(ids, self.policy)[place]
        has = f"{self.policy.rows} rows" if self.keys is None else f"{len(self.keys.keys)} keys, not this one"
        more = f" (and {others} more of the column)" if others else ""
        return (
            f"{where}[{place}] is the id {given}, and table {self.name!r} has {has}{more}: leave it out, or export "
            "with another policy for unknown ids"
        )


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
        names = {name for table in sets.files.values() for name in (table.file, table.keys)}
        files = MappedFiles(bundle.path, [entry for entry in bundle.manifest.files if entry.path in names])
        tables = {
            name: RowTable.open(
                bundle.file(table.file),
                name,
                sets.tables[name],
                table.dtype,
                None if table.keys is None else bundle.file(table.keys),
            )
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

    def counts(self) -> dict[str, IdCounts]:
        """Counts the ids that each table was asked for."""
        return {name: table.asked.counts() for name, table in self.tables.items()}

    def check_files(self) -> None:
        """Raises Unavailable where a file was written over or cut since it was opened."""
        if told := self.files.changed():
            raise Unavailable(f"{told}; load the model again")


def as_owned(ids: NDArray[np.int64], policy: IdTable) -> NDArray[np.int64] | NDArray[np.uint64]:
    """Gives ids as their owner writes them: signed, or unsigned."""
    return ids.view(np.uint64) if policy.ids == "uint64" else ids


def hashed_rows(ids: NDArray[np.int64], policy: IdTable) -> NDArray[np.int64]:
    """Finds the rows of ids, unsigned ones by their bits, of a table whose lookup is a hash. [ids]"""
    if policy.lookup == "modulo":
        return (as_owned(ids, policy) % policy.rows).astype(np.int64)
    hashed = splitmix64(ids.view(np.uint64) ^ np.uint64(policy.seed)) % np.uint64(policy.rows)
    return hashed.astype(np.int64)
