"""Values that `SetRanker` (in process) and `Client.rank_set` take and return alike: columns of features, and a ranking.

Owns the checks of what callers pass as far as they need no model: which features there are, the bundle says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankport.protos.arguments import INT64, checked_top_k, number_array
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Brief, Usage
from rankport.protos.wording import keys_amiss, type_told

SetColumn = NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.float32] | tuple[str, ...]
"""Ids [rows], unsigned where one needs it, numbers [rows] or vectors [rows, width], or keys of a token store."""
SetFeatures = Mapping[str, ArrayLike | Sequence[str]]
"""A column for each feature by its name."""
_ARGUMENTS = frozenset({"history", "candidates", "times", "now", "sessions", "head_weights", "top_k"})
_LARGEST = 1e30  # a weight by which sums of scores stay finite in float32


@dataclass(frozen=True, slots=True)
class SetColumns:
    """Features of events or of candidates: a column each, all of one length."""

    columns: Mapping[str, SetColumn]
    rows: int

    @classmethod
    def of(cls, given: "SetFeatures | SetColumns", side: str) -> "SetColumns":
        """Takes columns by name; `side` begins messages.

        Raises InvalidRequest for what is no mapping, columns of unequal length, or values that are neither numbers nor
        keys.
        """
        if isinstance(given, SetColumns):
            return given
        if not isinstance(given, Mapping):
            raise InvalidRequest(f"{side} is {type_told(given)}; give a column for each feature by name")
        columns = {str(name): _column(values, f"{side}[{name!r}]") for name, values in given.items()}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidRequest(f"{side} has columns of unequal length: {lengths}")
        return cls(columns, next(iter(lengths.values()), 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class SetQuery:
    """One request: what a user did, what is to be ranked, and how."""

    history: SetColumns
    candidates: SetColumns
    times: NDArray[np.int64] | None = None  # [events] whole seconds
    now: int | None = None  # time of the request
    sessions: NDArray[np.int64] | None = None  # [candidates] those of equal number see each other; None: all
    head_weights: Mapping[str, float] | None = None  # by head; None: those of the bundle
    top_k: int | None = None  # candidates in `order`; None: all

    @classmethod
    def of(
        cls,
        history: SetFeatures | SetColumns,
        candidates: SetFeatures | SetColumns,
        head_weights: Mapping[str, float] | None = None,
        top_k: int | None = None,
        *,
        times: ArrayLike | None = None,
        now: int | None = None,
        sessions: ArrayLike | None = None,
    ) -> "SetQuery":
        """Checks the parts of a request against each other. Raises InvalidRequest naming the one at fault."""
        events, ranked = SetColumns.of(history, "history"), SetColumns.of(candidates, "candidates")
        return cls(
            history=events,
            candidates=ranked,
            times=None if times is None else _whole(times, "times", events.rows, "events"),
            now=None if now is None else _second(now),
            sessions=None if sessions is None else _whole(sessions, "sessions", ranked.rows, "candidates"),
            head_weights=None if head_weights is None else _weights(head_weights),
            top_k=checked_top_k(top_k),
        )


@dataclass(frozen=True, slots=True, repr=False)
class SetRanking(Brief):
    """Answer to one request."""

    scores: NDArray[np.float32]  # [candidates] weighted sums of the heads
    head_scores: NDArray[np.float32]  # [candidates, heads]
    heads: tuple[str, ...]
    order: NDArray[np.int64]  # [top_k] places of the candidates: best first, equal ones as given, NaN last
    fingerprint: str  # of the bundle that answered
    usage: Usage  # of events as the prefix, of candidates as items

    def head(self, name: str) -> NDArray[np.float32]:
        """Gives the scores of one head. [candidates] Raises InvalidRequest if there is none of that name."""
        if name not in self.heads:
            raise InvalidRequest(f"head {name!r} is unknown: the model has {', '.join(self.heads)}")
        return self.head_scores[:, self.heads.index(name)]


def rank_arguments(row: object) -> dict[str, Any]:
    """Reads the arguments of `rank` off a JSON object, null for a missing number. Raises InvalidRequest for another."""
    if not isinstance(row, dict) or not {"history", "candidates"} <= row.keys() <= _ARGUMENTS:
        raise InvalidRequest(
            f"must be an object with history and candidates, of {', '.join(sorted(_ARGUMENTS))}"
            f"{keys_amiss(row, ('history', 'candidates'), _ARGUMENTS)}"
        )
    sides = {side: row[side] for side in ("history", "candidates")}
    filled = {
        side: {name: _numbers(column) for name, column in columns.items()}
        for side, columns in sides.items()
        if isinstance(columns, dict)
    }
    return row | filled


def _numbers(column: Any) -> Any:
    if not isinstance(column, list) or None not in column:
        return column
    return [float("nan") if value is None else value for value in column]


def _column(values: Any, where: str) -> SetColumn:
    if isinstance(values, list | tuple) and values and all(isinstance(value, str) for value in values):
        return tuple(values)
    try:
        array = number_array(values)
    except ValueError:  # ragged
        array = np.array([None])
    if array.ndim not in (1, 2):
        raise InvalidRequest(f"{where} has shape {list(array.shape)}; give [rows], or [rows, width]")
    # Of a list that is not of texts alone numpy makes text too: of 1 the key "1", and of bytes there is none.
    if array.dtype.kind in "UO" and array.ndim == 1 and not isinstance(values, list | tuple):
        keys = array.tolist()  # of pandas they are objects
        if all(isinstance(key, str) for key in keys):
            return tuple(keys)
    # True and False may be numbers, and are no ids: as floats, they are refused where ids must be.
    if array.dtype.kind in "iu" and array.ndim == 1:
        unsigned = array.dtype.kind == "u" and (array > INT64.max).any()
        return array.astype(np.uint64) if unsigned else array.astype(np.int64)
    if array.dtype.kind in "fiub":
        with np.errstate(over="ignore"):  # what becomes infinite is refused by name
            return array.astype(np.float32)
    raise InvalidRequest(f"{where} holds what is neither number nor key; give ids, floats, vectors or keys")


def _whole(values: ArrayLike, name: str, rows: int, of: str) -> NDArray[np.int64]:
    try:
        array = number_array(values)
    except ValueError:  # ragged
        array = np.array([None])
    if array.shape != (rows,):
        raise InvalidRequest(f"{name} has shape {list(array.shape)}: there are {rows} {of}")
    if rows and array.dtype.kind not in "iu":
        raise InvalidRequest(f"{name} is of {array.dtype}: give whole numbers")
    if array.dtype.kind == "u" and (over := array > INT64.max).any():
        place = int(over.argmax())
        raise InvalidRequest(
            f"{name}[{place}] is {array[place]}: must be at most {INT64.max}; view the numbers as int64"
        )
    return array.astype(np.int64)


def _second(now: object) -> int:
    whole = isinstance(now, int | np.integer) and not isinstance(now, bool)
    if not (whole and INT64.min <= now <= INT64.max):  # type: ignore[operator]
        raise InvalidRequest(f"now is {now!r:.40}: give whole seconds, of 64 bits")
    return int(now)  # type: ignore[call-overload, no-any-return]


def _weights(weights: object) -> dict[str, float]:
    if not isinstance(weights, Mapping) or not weights:
        raise InvalidRequest(
            f"head_weights is {weights!r}: give a number for each head that counts, by its name"
        )
    for name, weight in weights.items():
        number = isinstance(weight, int | float | np.integer | np.floating) and not isinstance(weight, bool)
        if not number or not abs(weight) <= _LARGEST:  # NaN is not
            raise InvalidRequest(
                f"head_weights[{name!r}] is {weight!r:.40}: give a number of {_LARGEST:.0e} at most"
            )
    return {str(name): float(weight) for name, weight in weights.items()}
