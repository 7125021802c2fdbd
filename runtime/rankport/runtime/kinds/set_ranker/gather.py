"""Columns of a request as the arrays that graphs take, and as the bytes by which events are told from each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.sets import SetColumn, SetColumns
from rankport.protos.wording import amiss
from rankport.runtime.backends.set_contract import FeatureRows
from rankport.runtime.bundle.sections.sets import (
    ContentFeature,
    DenseFeature,
    IdFeature,
    IdType,
    ScalarFeature,
    SetFeature,
    SetSchema,
)
from rankport.runtime.kinds.set_ranker.tables import RowTables
from rankport.runtime.store.hot_tokens import HotTokens

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GatheredRows:
    """Features of events or candidates."""

    features: FeatureRows  # scalars scaled; ids looked up, or as the rows of their tables
    identity: NDArray[np.uint8]  # [rows, bytes] ids and values as given: equal for equal rows alone


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Reads the columns of requests by a schema."""

    schema: SetSchema
    tables: RowTables
    content: HotTokens | None = None  # token store of keys
    in_graph: bool = False  # graphs gather the rows of ids: they are only found

    @property
    def alive(self) -> bool:
        """False where the tables have changed, and while the store cannot be read."""
        return not self.tables.files.changed() and (self.content is None or self.content.alive)

    def rows(self, given: SetColumns, side: str) -> GatheredRows:
        """Gathers the features of `side`, history or candidates.

        Raises InvalidRequest for one that is missing, unknown, of another form or width, infinite, or NaN where no
        value counts then, and for an unknown id that is refused; NotFound for a key that the store lacks; Unavailable
        where a table was written over or cut since it was loaded.
        """
        features = self.schema.event if side == "history" else self.schema.candidate
        if given.rows or given.columns:
            _check_names(given, features, side)
        if not given.rows:
            ids = sum(isinstance(each, IdFeature) for each in features) if self.in_graph else 0
            width = self.schema.width(features, but_ids=self.in_graph)
            nothing = FeatureRows(np.zeros((0, width), np.float32), np.zeros((0, ids), np.int64))
            return GatheredRows(nothing, np.zeros((0, 8), np.uint8))
        values = [np.zeros((given.rows, 0), np.float32)]
        places = [np.zeros((given.rows, 0), np.int64)]
        identity: list[NDArray[np.generic]] = []
        self.tables.check_files()
        for feature in features:
            column, where = given.columns[feature.name], f"{side}[{feature.name!r}]"
            if isinstance(feature, IdFeature):
                table = self.tables.tables[feature.table]
                ids_given = _ids(column, table.policy.ids, where)
                if self.in_graph:
                    places.append(table.places(ids_given, where)[:, None])
                else:
                    values.append(table.gather(ids_given, where))
                identity.append(ids_given)
                continue
            values.append(self._values(feature, column, where))
            identity.append(values[-1])
        self.tables.check_files()  # what was written meanwhile may be in the values
        gathered = FeatureRows(np.concatenate(values, axis=1), np.concatenate(places, axis=1))
        return GatheredRows(gathered, bytes_of_rows(identity))

    def blank(self, features: Sequence[SetFeature]) -> SetColumns:
        """Makes one row that says nothing: zeros, and ids that their tables have. Raises Unavailable as `rows`."""
        self.tables.check_files()
        columns: dict[str, SetColumn] = {
            feature.name: self.tables.tables[feature.table].some_id()
            if isinstance(feature, IdFeature)
            else np.zeros(1 if isinstance(feature, ScalarFeature) else (1, feature.width), np.float32)
            for feature in features
        }
        return SetColumns(columns, 1)

    def _values(
        self, feature: DenseFeature | ContentFeature | ScalarFeature, column: SetColumn, where: str
    ) -> Values:
        if isinstance(feature, ContentFeature) and isinstance(column, tuple):
            return self._read(column, feature, where)
        numbers = _numbers(column, where)
        if isinstance(feature, ScalarFeature):
            return _scaled(feature, numbers, where)
        if numbers.ndim != 2 or numbers.shape[1] != feature.width:
            raise InvalidRequest(f"{where} has shape {list(numbers.shape)}; must be [rows, {feature.width}]")
        _check_finite(numbers, where, nan=False)
        return numbers

    def _read(self, keys: tuple[str, ...], feature: ContentFeature, where: str) -> Values:
        if self.content is None:
            raise InvalidRequest(
                f"{where} holds keys, and no token store is loaded: load one, or give vectors"
            )
        stored = self.content.read(keys)
        if len(stored.places) < len(keys):
            lacking = int(np.setdiff1d(np.arange(len(keys)), stored.places)[0])
            raise NotFound(
                f"{where}[{lacking}]: no tokens of key {keys[lacking]!r} under encoder {self.content.fingerprint}: run "
                "`rankport encode` for it, or give vectors"
            )
        tokens = np.asarray(stored.tokens, np.float32).reshape(len(keys), -1)
        if tokens.shape[1] != feature.width:
            raise InvalidRequest(
                f"{where}: the store has {tokens.shape[1]} values a key, must be {feature.width}"
            )
        return tokens


def bytes_of_rows(columns: Sequence[NDArray[np.generic] | tuple[str, ...]]) -> NDArray[np.uint8]:
    """Joins columns of numbers to the bytes of each row. [rows, bytes]"""
    blocks = []
    for column in columns:
        array = np.ascontiguousarray(column)
        blocks.append(array.reshape(len(array), -1).view(np.uint8))
    return np.concatenate(blocks, axis=1)


def _check_names(given: SetColumns, features: Sequence[SetFeature], side: str) -> None:
    known = [feature.name for feature in features]
    missing = [name for name in known if name not in given.columns]
    unknown = [name for name in given.columns if name not in known]
    if missing or unknown:
        raise InvalidRequest(f"{side}: features {amiss(missing, unknown)}: give {', '.join(known)}")


def _ids(column: SetColumn, kind: IdType, where: str) -> NDArray[np.int64]:
    """Takes ids of a table's kind, unsigned ones by their bits."""
    if isinstance(column, tuple) or column.dtype.kind not in "iu":
        raise InvalidRequest(f"{where} must be ids: whole numbers [rows]")
    ids = column.view(np.int64)
    if column.dtype == kind or not (other := ids < 0).any():
        return ids
    place = int(other.argmax())
    fix = (
        "view the numbers as int64, if the table was trained with their bits"
        if kind == "int64"
        else "an id is not negative"
    )
    raise InvalidRequest(
        f"{where}[{place}] is the id {column[place]}, and the ids of its table are {kind}: {fix}"
    )


def _numbers(column: SetColumn, where: str) -> Values:
    if isinstance(column, tuple):
        raise InvalidRequest(f"{where} holds text: give numbers")
    return column.astype(np.float32)


def _scaled(feature: ScalarFeature, numbers: Values, where: str) -> Values:
    if numbers.ndim != 1:
        raise InvalidRequest(f"{where} has shape {list(numbers.shape)}; give one number a row")
    _check_finite(numbers, where, nan=feature.nan is not None)
    if feature.nan is not None:
        numbers = np.where(np.isnan(numbers), np.float32(feature.nan), numbers)
    with np.errstate(over="ignore"):
        scaled: Values = (numbers - np.float32(feature.shift)) / np.float32(feature.divisor)
    if (beyond := np.isinf(scaled)).any():
        place = int(beyond.argmax())
        raise InvalidRequest(f"{where}[{place}] is {numbers[place]:g}: scaled, it is beyond float32")
    return scaled[:, None]


def _check_finite(numbers: Values, where: str, *, nan: bool) -> None:
    bad = np.isinf(numbers) if nan else ~np.isfinite(numbers)
    if bad.any():
        place = int(np.argwhere(bad)[0][0])
        allowed = "a number, or NaN" if nan else "a number: no value is stated that counts for NaN"
        raise InvalidRequest(f"{where}[{place}] is not finite: must be {allowed}")
