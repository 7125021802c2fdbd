"""Ways in which a ranker of sets is asked, each by the runtime itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.kinds.set_ranker.proof.samples import Columns, SetSample
from rankport.protos.sets import SetQuery
from rankport.runtime.bundle.sections.sets import MaskPolicy
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker

Logits = NDArray[np.float32]
Asked = Callable[[SetRanker, SetSample], Logits]


def ask(ranker: SetRanker, sample: SetSample) -> Logits:
    """Asks once: the logits of heads. [candidates, heads]"""
    schema = ranker.schema
    query = SetQuery.of(
        sample.history,
        sample.candidates,
        times=sample.times if schema.times else None,
        now=sample.now if schema.times else None,
        sessions=None if schema.mask.policy == "independent" else sample.sessions,
    )
    return ranker.submit_logits(query).result().logits


def _extended(ranker: SetRanker, sample: SetSample) -> Logits:
    """Has the history grow event by event, twice by more, so that only new ones are computed each time."""
    events = len(sample.times)
    for end in sorted({1, 2, events // 2, max(events - 1, 0)}):
        if 0 < end < events:
            ask(ranker, replace(sample, history=_part(sample.history, slice(end)), times=sample.times[:end]))
    return ask(ranker, sample)


def _cached(ranker: SetRanker, sample: SetSample) -> Logits:
    ask(ranker, sample)
    return ask(ranker, sample)


def _branched(ranker: SetRanker, sample: SetSample) -> Logits:
    """Asks first with a history that parts from this one midway: what they share is kept, the rest is not."""
    middle = len(sample.times) // 2
    order = np.r_[np.arange(middle), np.arange(len(sample.times))[middle:][::-1]]
    other = replace(sample, history=_part(sample.history, order))
    ask(ranker, other)
    return ask(ranker, sample)


def _permuted(ranker: SetRanker, sample: SetSample) -> Logits:
    order = np.random.default_rng(3).permutation(len(sample.sessions))
    moved = replace(sample, candidates=_part(sample.candidates, order), sessions=sample.sessions[order])
    return ask(ranker, moved)[np.argsort(order)]


def _one_by_one(ranker: SetRanker, sample: SetSample) -> Logits:
    rows = [
        ask(
            ranker,
            replace(sample, candidates=_part(sample.candidates, [place]), sessions=sample.sessions[[place]]),
        )
        for place in range(len(sample.sessions))
    ]
    return np.concatenate(rows)


def _part(columns: Columns, places: "slice | Sequence[int] | NDArray[np.int64]") -> Columns:
    return {name: column[places] for name, column in columns.items()}


_ALWAYS = MappingProxyType(
    {"one_pass": ask, "extended": _extended, "cached": _cached, "branched": _branched, "permuted": _permuted}
)


def modes_of(policy: MaskPolicy) -> dict[str, Asked]:
    """Lists the modes of a mask: candidates one by one only where they do not see each other."""
    own = {"one_by_one": _one_by_one} if policy == "independent" else {}
    return {**_ALWAYS, **own}
