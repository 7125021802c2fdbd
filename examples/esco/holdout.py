"""Unseen items: whole ISCO unit groups that training never reads, and which split a query of theirs is judged in.

Owns the choice of the groups. An occupation's exact and partial matches lie in its own unit group, so a group held
out as a whole leaves none of a query's relevant items to training.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

UNSEEN_SPLITS = ("unseen-valid", "unseen-test")
MIXED = "mixed"  # queries with relevant items on both sides: neither trained on nor judged
UNSEEN_QUERIES = 120  # of each unseen split, at least


def choose_held_out(trained: Sequence[frozenset[str]], judged: Iterable[frozenset[str]]) -> dict[str, str]:
    """Assigns unit groups to `UNSEEN_SPLITS`, in the order of their codes' SHA-256.

    `trained` and `judged` are the relevant unit groups of each query that training may and may not read. A group
    with a judged query stays: the splits by query are about items that training has seen.
    """
    taken = frozenset(unit for units in judged for unit in units)
    queries = Counter(unit for units in trained if len(units) == 1 for unit in units)
    free = sorted(queries.keys() - taken, key=lambda unit: sha256(unit.encode()).hexdigest())
    chosen: dict[str, str] = {}
    for split in UNSEEN_SPLITS:
        while sum(queries[unit] for unit, name in chosen.items() if name == split) < UNSEEN_QUERIES:
            chosen[free[len(chosen)]] = split
    return chosen


def split_of(units: frozenset[str], held_out: Mapping[str, str]) -> str:
    """Names the split of a query that training might read, by the unit groups of its relevant items."""
    splits = {held_out.get(unit, "train") for unit in units}
    return splits.pop() if len(splits) == 1 else MIXED
