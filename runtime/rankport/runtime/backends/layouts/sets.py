"""Events and candidates of one request as the graphs of a ranker of sets take them, padded at the end.

Neither padding changes a row: an event sees those before it, and a candidate the history and those of its session.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.kept import KeptTensor
from rankport.runtime.backends.layouts.layout import HostArray
from rankport.runtime.bundle.manifest import DType, LayerKV, Role

HISTORY: Role = "history"
RANK: Role = "rank"
RANK_SET: Role = "rank-set"  # of the mask `top`: its second pass

Values = NDArray[np.float32]
Whole = NDArray[np.int64]


def kept_states(layers: Sequence[LayerKV], dtype: DType) -> tuple[KeptTensor, ...]:
    """Lists what a history keeps of each of its events."""
    parts = [layer for layer in layers for _ in ("key", "value")]
    names = zip(state_names("state", len(layers)), state_names("past", len(layers)), parts, strict=True)
    return tuple(KeptTensor(new, past, part.kv_heads, part.head_dim, dtype) for new, past, part in names)


def history_inputs(past_times: Whole, events: Values, times: Whole, rows: int) -> Mapping[str, HostArray]:
    """Makes the inputs, but for the past's state, of events [events, width] at times [events], in `rows` rows."""
    return {
        "events": HostArray.padded((rows, events.shape[1]), events),
        "times": HostArray.padded((rows,), times, filling=int(times[-1])),
        "past_times": HostArray.padded(past_times.shape, past_times),
    }


def rank_inputs(
    past_times: Whole, now: int, candidates: Values, sessions: Whole | None, rows: int
) -> Mapping[str, HostArray]:
    """Makes the inputs, but for the past's state, of candidates [candidates, width], in `rows` rows.

    Sessions [candidates] are numbered anew, as those of the padding must be none of theirs.
    """
    inputs = {
        "candidates": HostArray.padded((rows, candidates.shape[1]), candidates),
        "now": HostArray.padded((1,), np.array([now], np.int64)),
        "past_times": HostArray.padded(past_times.shape, past_times),
    }
    if sessions is not None:
        numbers = np.unique(sessions, return_inverse=True)[1].astype(np.int64, copy=False)
        inputs["sessions"] = HostArray.padded((rows,), numbers, filling=-1)
    return inputs


def rank_role(sessions: Whole | None, roles: Collection[Role]) -> Role:
    """Tells which graph ranks: that of each by itself, or where there are two, of those that see each other."""
    return RANK if sessions is None or RANK_SET not in roles else RANK_SET


def state_names(what: str, layers: int) -> list[str]:
    """Names keys and values of each layer in `what`, past or state: key 0, value 0, key 1, ..."""
    return [f"{what}_{part}.{layer}" for layer in range(layers) for part in ("key", "value")]
