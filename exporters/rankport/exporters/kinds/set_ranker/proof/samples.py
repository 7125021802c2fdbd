"""Requests that a proof of a ranker of sets asks: histories of several lengths, candidates, times and sessions."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.proof.windows import LONGEST
from rankport.runtime.bundle.sections.sets import IdFeature, IdTable, ScalarFeature, SetFeature, SetSchema

Columns = Mapping[str, NDArray[np.generic]]
Keys = Mapping[str, NDArray[np.int64]]
"""Keys by table, ascending."""
_LENGTHS = (0, 1, 9, 24, 40, LONGEST)
"""Events; a long history has all distances, and sums that half precision does not hold."""
_CANDIDATES = 24
_UNKNOWN_EVERY = 7


@dataclass(frozen=True, slots=True)
class SetSample:
    """One request as columns."""

    history: Columns
    candidates: Columns
    times: NDArray[np.int64]  # [events]
    now: int
    sessions: NDArray[np.int64]  # [candidates]


def draw_samples(schema: SetSchema, keys: Keys = MappingProxyType({})) -> list[SetSample]:
    """Draws requests that fit a schema and the keys of its tables, with unknown ids where they mean something."""
    rng = np.random.default_rng(0)
    lengths = sorted({min(length, schema.max_events) for length in _LENGTHS})
    candidates = min(_CANDIDATES, schema.max_candidates)
    return [_sample(schema, keys, length, candidates, rng) for length in lengths]


def _sample(
    schema: SetSchema, keys: Keys, events: int, candidates: int, rng: np.random.Generator
) -> SetSample:
    times = np.cumsum(rng.integers(0, 10 ** rng.integers(1, 7, events))).astype(np.int64) + 1_500_000_000
    return SetSample(
        history=_columns(schema, keys, schema.event, events, rng),
        candidates=_columns(schema, keys, schema.candidate, candidates, rng),
        times=times,
        now=int(times[-1]) + 3600 if events else 1_500_000_000,
        sessions=np.sort(rng.integers(0, 2, candidates)),
    )


def _columns(
    schema: SetSchema, keys: Keys, features: list[SetFeature], rows: int, rng: np.random.Generator
) -> dict[str, NDArray[np.generic]]:
    return {feature.name: _column(schema, keys, feature, rows, rng) for feature in features}


def _column(
    schema: SetSchema, keys: Keys, feature: SetFeature, rows: int, rng: np.random.Generator
) -> NDArray[np.generic]:
    if isinstance(feature, IdFeature):
        table = schema.tables[feature.table]
        ids = _ids(table, keys.get(feature.table), rows, rng)
        return ids.view(np.uint64) if table.ids == "uint64" else ids
    if isinstance(feature, ScalarFeature):
        values = rng.standard_normal(rows) * feature.divisor + feature.shift
        if feature.nan is not None:
            values[::3] = np.nan
        return values.astype(np.float32)
    return rng.standard_normal((rows, feature.width)).astype(np.float32)


def _ids(
    table: IdTable, keys: NDArray[np.int64] | None, rows: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    if table.lookup in ("modulo", "splitmix64"):
        return rng.integers(-(2**62), 2**62, rows)
    ids = rng.integers(0, table.rows, rows) if keys is None else keys[rng.integers(0, len(keys), rows)]
    if table.unknown != "refuse":
        ids[::_UNKNOWN_EVERY] = table.rows + 3 if keys is None else _no_key(keys)
    return ids


def _no_key(keys: NDArray[np.int64]) -> np.int64:
    """Finds an id beside a key that is none itself; keys ascend."""
    with np.errstate(over="ignore"):
        after = keys + np.int64(1)
    return np.int64(after[after != np.roll(keys, -1)][0])
