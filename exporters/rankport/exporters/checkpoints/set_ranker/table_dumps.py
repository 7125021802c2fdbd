"""Dumps of dynamic embedding tables, `dynamicemb_module/…/TABLE_emb_keys.rank_R.world_size_W` and `…_emb_values…`.

Raw and little-endian: a rank's keys are int64 ids in no order, its values the float32 rows of those keys. All files are
mapped, and rows are laid out in a file that is mapped too: a table larger than the memory takes room on the disk alone.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.sections.sets import IdTable
from rankport.runtime.kinds.set_ranker.tables import hashed_rows

FOLDER: Final = "dynamicemb_module"
_SHARD: Final = re.compile(
    r"(?P<table>.+?)_(?P<part>emb_keys|emb_values|emb_scores|emb_opt_values|opt_values|counter_keys|counter_frequencies)"
    r"\.rank_(?P<rank>\d+)\.world_size_(?P<world>\d+)"
)
_ARGUMENTS: Final = "_opt_args.json"  # of the optimizer
_KEY: Final = np.dtype("<i8")
_VALUE: Final = np.dtype("<f4")
_AT_ONCE: Final = 1 << 18  # keys


@dataclass(frozen=True, slots=True)
class TableDump:
    """Files of one table, a pair a rank."""

    name: str  # path below the folder of dumps
    shards: tuple[tuple[Path, Path], ...]  # keys and values, by rank


@dataclass(frozen=True, slots=True)
class TableDumps:
    """Dumps of a checkpoint by name, and the files beside them that no answer depends on."""

    tables: Mapping[str, TableDump]
    left_out: tuple[Path, ...]  # states of optimizers, scores and counts of eviction and admission

    def named(self, name: str) -> TableDump | None:
        """Finds a table by its path, or its bare name. Raises CheckpointError where several folders have one."""
        found = [path for path in self.tables if path == name or path.endswith(f"/{name}")]
        if len(found) > 1:
            raise CheckpointError(f"table {name!r} is dumped as {' and as '.join(found)}: name one of them")
        return self.tables[found[0]] if found else None


def table_dumps(folder: Path) -> TableDumps:
    """Lists the dumps of a checkpoint; none where it has no folder of them.

    Raises CheckpointError naming a file that is missing, of another world size than its table's, or of no known name.
    """
    files: dict[str, dict[tuple[str, int], Path]] = {}
    worlds: dict[str, int] = {}
    left_out: list[Path] = []
    for path in sorted(each for each in (folder / FOLDER).rglob("*") if each.is_file()):
        match = _SHARD.fullmatch(path.name)
        if match is None and not path.name.endswith(_ARGUMENTS):
            raise CheckpointError(
                f"{path} is no file of a table's dump (TABLE_emb_keys.rank_R.world_size_W): move it away"
            )
        if match is None or match["part"] not in ("emb_keys", "emb_values"):
            left_out.append(path)
            continue
        name = (path.parent / match["table"]).relative_to(folder / FOLDER).as_posix()
        rank, world = int(match["rank"]), int(match["world"])
        if worlds.setdefault(name, world) != world or rank >= world:
            raise CheckpointError(
                f"{path}: other files of its table are of {worlds[name]} ranks: keep one dump"
            )
        files.setdefault(name, {})[match["part"], rank] = path
    tables = {name: _dump(folder / FOLDER, name, worlds[name], parts) for name, parts in files.items()}
    return TableDumps(tables, tuple(left_out))


def sorted_keys(dump: TableDump, table: str, policy: IdTable) -> NDArray[np.int64]:
    """Joins the keys of all ranks, ascending, unsigned ones by their bits. [keys]

    Raises CheckpointError for a file whose size does not fit, a key that is there twice, and more or fewer keys than
    the table has rows.
    """
    for keys_file, values_file in dump.shards:
        _check_sizes(keys_file, values_file, policy.width)
    parts = [np.fromfile(keys_file, _KEY) for keys_file, _ in dump.shards]
    keys = np.sort(np.concatenate(parts))
    twice = keys[1:][keys[1:] == keys[:-1]]
    if len(twice):
        raise _repeated(dump, int(twice[0]))
    if not len(keys) == policy.key_count == policy.rows:
        raise CheckpointError(
            f"dump {dump.name!r} has {len(keys)} keys, and table {table!r} has {policy.rows} rows and "
            f"{policy.key_count} keys in the config: say rows {len(keys)}, and leave out keys"
        )
    return keys


def rows_of(dump: TableDump, table: str, policy: IdTable, scratch: Path | None = None) -> Tensor:
    """Joins the ranks of a dump to the rows of a table, each key at the row that its policy finds. [rows, width]

    They lie in a file in the folder `scratch` (by default that of temporary files), which goes with the tensor. A row
    of no key is what an unknown id counts as: zeros, or the shared row. Of lookup `keys` rows are as `sorted_keys`.

    Raises CheckpointError for a file whose size does not fit, a key without a row, two keys of one row, and a row
    without a key where unknown ids are refused; as `sorted_keys`.
    """
    for keys_file, values_file in dump.shards:
        _check_sizes(keys_file, values_file, policy.width)
    ordered = sorted_keys(dump, table, policy) if policy.lookup == "keys" else None
    with tempfile.TemporaryFile(dir=scratch) as room:
        rows = np.memmap(room, _VALUE, "w+", shape=(policy.rows, policy.width))
    filled = np.zeros(policy.rows, np.bool_)
    for keys_file, keys, values in _pieces(dump, policy.width):
        places = (
            _places(keys, policy, table, keys_file) if ordered is None else np.searchsorted(ordered, keys)
        )
        order = np.argsort(places, kind="stable")  # rows are written as they lie
        placed = places[order]
        repeated = filled[placed]
        repeated[1:] |= placed[1:] == placed[:-1]
        if repeated.any():
            raise _twice(dump, policy, table, int(placed[repeated.argmax()]))
        filled[placed] = True
        rows[placed] = values[order]
    _fill_rest(rows, filled, table, policy, dump)
    return torch.from_numpy(rows)


def _dump(root: Path, name: str, world: int, parts: Mapping[tuple[str, int], Path]) -> TableDump:
    for rank in range(world):
        for part in ("emb_keys", "emb_values"):
            if (part, rank) not in parts:
                file = root / f"{name}_{part}.rank_{rank}.world_size_{world}"
                raise CheckpointError(
                    f"{file} is missing: the table was dumped by {world} ranks; copy them all"
                )
    return TableDump(
        name, tuple((parts["emb_keys", rank], parts["emb_values", rank]) for rank in range(world))
    )


def _check_sizes(keys_file: Path, values_file: Path, width: int) -> None:
    nbytes = keys_file.stat().st_size
    if nbytes % _KEY.itemsize:
        raise CheckpointError(f"{keys_file} has {nbytes} bytes, no whole number of int64 keys: copy it again")
    count, size = nbytes // _KEY.itemsize, values_file.stat().st_size
    expected = count * width * _VALUE.itemsize
    if size != expected:
        raise CheckpointError(
            f"{values_file} has {size} bytes, and {count} keys with float32 rows of {width} values take {expected}: "
            "copy it again, or give the config the width of the table"
        )


def _pieces(dump: TableDump, width: int) -> Iterator[tuple[Path, NDArray[np.int64], NDArray[np.float32]]]:
    """Yields keys with their values [keys, width], some at a time."""
    for keys_file, values_file in dump.shards:
        count = keys_file.stat().st_size // _KEY.itemsize
        if not count:  # of a rank that holds no key; nothing is mapped of an empty file
            continue
        keys = np.memmap(keys_file, _KEY, "r", shape=(count,))
        values = np.memmap(values_file, _VALUE, "r", shape=(count, width))
        for start in range(0, count, _AT_ONCE):
            yield keys_file, np.asarray(keys[start : start + _AT_ONCE]), values[start : start + _AT_ONCE]


def _places(keys: NDArray[np.int64], policy: IdTable, table: str, file: Path) -> NDArray[np.int64]:
    if policy.lookup != "direct":
        return hashed_rows(keys, policy)
    outside = (keys < 0) | (keys >= policy.rows)
    if outside.any():
        raise CheckpointError(
            f"{file}: key {keys[outside.argmax()]} is no row of table {table!r}, whose {policy.rows} ids are its rows "
            "(lookup direct): say lookup keys, or give it more rows"
        )
    return keys


def _twice(dump: TableDump, policy: IdTable, table: str, place: int) -> CheckpointError:
    """Makes the error of a row that several keys have, with the first two of them."""
    found: list[int] = []
    for file, keys, _ in _pieces(dump, policy.width):
        found += keys[_places(keys, policy, table, file) == place].tolist()
    first, second = found[:2]
    if first == second:
        return _repeated(dump, first)
    return CheckpointError(
        f"dump {dump.name!r}: keys {first} and {second} have one row, {place} of the {policy.rows} of table {table!r} "
        f"(lookup {policy.lookup}): say lookup keys"
    )


def _repeated(dump: TableDump, key: int) -> CheckpointError:
    return CheckpointError(f"dump {dump.name!r} has key {key} twice: dump the table again")


def _fill_rest(
    rows: NDArray[np.float32], filled: NDArray[np.bool_], table: str, policy: IdTable, dump: TableDump
) -> None:
    """Gives rows that no key has what an unknown id counts as; those of a new file are zeros."""
    if policy.lookup in ("modulo", "splitmix64") or filled.all():
        return
    if policy.unknown == "refuse":
        raise CheckpointError(
            f"dump {dump.name!r} has no key {filled.argmin()}, a row of table {table!r}, which refuses unknown ids: "
            "say what they count as (unknown: zero or shared)"
        )
    if policy.shared_row is not None:
        if not filled[policy.shared_row]:
            raise CheckpointError(
                f"dump {dump.name!r} has no key {policy.shared_row}, the shared row of {table!r}"
            )
        rows[~filled] = rows[policy.shared_row]
