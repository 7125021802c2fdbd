"""Events and candidates of one request as the graphs of a ranker of sets take them, padded at the end.

Neither padding changes a row: an event sees those before it, and a candidate the history and those of its session.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.kept import KeptTensor
from rankport.runtime.backends.layouts.layout import HostArray
from rankport.runtime.backends.set_contract import FeatureRows
from rankport.runtime.bundle.manifest import DType, LayerKV, Manifest, Role

HISTORY: Role = "history"
RANK: Role = "rank"
RANK_SET: Role = "rank-set"  # of the mask `top`: its second pass

EVENTS: Final = "events"
CANDIDATES: Final = "candidates"
EVENT_ROWS: Final = "event_rows"
CANDIDATE_ROWS: Final = "candidate_rows"
"""Inputs that say where the rows of ids lie in the blocks of their tables."""

Whole = NDArray[np.int64]
Slots = NDArray[np.int32]  # [rows, features of ids]; the first slot of a block is of zeros


def gathers_rows(manifest: Manifest) -> bool:
    """Says whether graphs gather the rows of ids from blocks; else they take the looked up values."""
    names = {tensor.name for graph in manifest.graphs for tensor in graph.inputs}
    return not names.isdisjoint((EVENT_ROWS, CANDIDATE_ROWS))


def table_input(table: str) -> str:
    """Names the input that takes the block of a table."""
    return f"table.{table}"


def scales_input(table: str) -> str:
    """Names the input that takes the scales of a table in int8."""
    return f"scales.{table}"


def kept_states(layers: Sequence[LayerKV], dtype: DType) -> tuple[KeptTensor, ...]:
    """Lists what a history keeps of each of its events."""
    parts = [layer for layer in layers for _ in ("key", "value")]
    names = zip(state_names("state", len(layers)), state_names("past", len(layers)), parts, strict=True)
    return tuple(KeptTensor(new, past, part.kv_heads, part.head_dim, dtype) for new, past, part in names)


def history_inputs(
    past_times: Whole, events: FeatureRows, slots: Slots | None, times: Whole, rows: int
) -> Mapping[str, HostArray]:
    """Makes the inputs, but for the past's state and blocks, of events at times [events], in `rows` rows."""
    return {
        **_features(EVENTS, events, EVENT_ROWS, slots, rows),
        "times": HostArray.padded((rows,), times, filling=int(times[-1])),
        "past_times": HostArray.padded(past_times.shape, past_times),
    }


def rank_inputs(
    past_times: Whole,
    now: int,
    candidates: FeatureRows,
    slots: Slots | None,
    sessions: Whole | None,
    rows: int,
) -> Mapping[str, HostArray]:
    """Makes the inputs, but for the past's state and blocks, of candidates, in `rows` rows.

    Sessions [candidates] are numbered anew, as those of the padding must be none of theirs.
    """
    inputs = {
        **_features(CANDIDATES, candidates, CANDIDATE_ROWS, slots, rows),
        "now": HostArray.padded((1,), np.array([now], np.int64)),
        "past_times": HostArray.padded(past_times.shape, past_times),
    }
    if sessions is not None:
        numbers = np.unique(sessions, return_inverse=True)[1].astype(np.int64, copy=False)
        inputs["sessions"] = HostArray.padded((rows,), numbers, filling=-1)
    return inputs


def _features(
    values: str, features: FeatureRows, places: str, slots: Slots | None, rows: int
) -> dict[str, HostArray]:
    """Makes what is sent of features; of padding the first slot, too."""
    given = {values: HostArray.padded((rows, features.values.shape[1]), features.values)}
    return given if slots is None else given | {places: HostArray.padded((rows, slots.shape[1]), slots)}


def rank_role(sessions: Whole | None, roles: Collection[Role]) -> Role:
    """Tells which graph ranks: that of each by itself, or where there are two, of those that see each other."""
    return RANK if sessions is None or RANK_SET not in roles else RANK_SET


def state_names(what: str, layers: int) -> list[str]:
    """Names keys and values of each layer in `what`, past or state: key 0, value 0, key 1, ..."""
    return [f"{what}_{part}.{layer}" for layer in range(layers) for part in ("key", "value")]
