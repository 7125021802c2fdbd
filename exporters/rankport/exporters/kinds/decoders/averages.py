"""Averages of all states of a prefix and an item, the prefix's computed once: what a head behind mean pooling reads.

A prefix keeps each token's last state beside its keys and values, so that it is split, joined and dropped as these are.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from rankport.exporters.kinds.decoders.shared_prefix import SharedPrefix
from rankport.runtime.bundle.sections.embedding import Pooling

_DIVISORS: Mapping[Pooling, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "mean": lambda count: count,
        "mean-sqrt-len": lambda count: count.sqrt(),
        "weighted-mean": lambda count: count * (count + 1) / 2,
    }
)
"""By how many tokens there are."""


def averaged(
    shared: SharedPrefix, hidden: Tensor, positions: Tensor, last_tokens: Tensor, pooling: Pooling
) -> Tensor:
    """Averages the states [1, tokens, width] of each item and its prefix, as `PooledStates`. [items, width]

    Fills `shared.states`. `positions` [tokens] count the prefix's tokens too.
    """
    own = shared.states = shared.by_slot(hidden[:, None])
    prefixes, _, slots, width = own.shape
    past, exists, sees = shared.past_states_of(own), shared.existing(), shared.seeing()
    weights = exists
    if pooling == "weighted-mean":
        places = (positions + 1).to(hidden.dtype)
        own = own * shared.by_slot(places[None, None, :, None])
        weights = exists * exists.cumsum(1)
    # Sums and products apart, as a product would end what stays exact in half precision: see `exact_nodes`.
    before = (past[:, 0] * weights[:, :, None]).sum(1)
    rows = own.reshape(-1, sees.shape[-1], width)
    # A matrix for each row: of one for all CUDA is sent the addresses of rows, from where they are gone at a replay.
    by_token = (sees.expand(rows.shape[0], -1, -1) @ rows).reshape(prefixes, slots, width)
    total = (by_token + before[:, None]).reshape(prefixes * slots, width)
    count = (positions.index_select(0, last_tokens) + 1).to(hidden.dtype)
    read = total.index_select(0, shared.slots_of(last_tokens))
    return read / _DIVISORS[pooling](count)[:, None]
