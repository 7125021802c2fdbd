"""Order dependence: how far a list ranker's ranking moves with the order in which the items are given."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.kinds.list_ranker.proof.samples import ListSample
from rankport.exporters.proof.metrics import kendall_tau
from rankport.protos.types import Item
from rankport.runtime.bundle.manifest import OrderDependence

_ORDERS = 5

Ask = Callable[[ListSample, Sequence[Item]], NDArray[np.float32]]
"""Scores items for the prefix of a sample. [items]"""


def order_dependence(samples: Sequence[ListSample], ask: Ask) -> OrderDependence | None:
    """Asks each sample in other orders, drawn at random; None where no list has two items."""
    lists = [sample for sample in samples if len(sample.items) > 1]
    if not lists:
        return None
    rng = np.random.default_rng(0)
    taus, moves, first = list[float](), list[float](), 0
    for sample in lists:
        scores = [ask(sample, sample.items)]
        for _ in range(_ORDERS):
            order = rng.permutation(len(sample.items))
            moved = np.empty_like(scores[0])
            moved[order] = ask(sample, [sample.items[place] for place in order])
            scores.append(moved)
        given, *others = (each.astype(np.float64) for each in scores)
        taus += [kendall_tau(given, other) for other in others]
        first += sum(int(other.argmax() != given.argmax()) for other in others)
        moves.append(float(np.ptp(np.stack(scores), axis=0).max()))
    return OrderDependence(
        requests=len(lists),
        items=sum(len(sample.items) for sample in lists),
        orders=_ORDERS,
        kendall_tau=float(np.mean(taus)),
        least_kendall_tau=float(min(taus)),
        first_changed=first,
        max_score_move=max(moves),
    )
