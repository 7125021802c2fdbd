"""Pruning at the end of a job: deletes stored items that its input does not name, unless they are too many to believe.

A file that an export left half written reads as a whole one, and would empty a store that requests read.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rankport.protos.wording import be, counted
from rankport.runtime.jobs.batching import chunks
from rankport.runtime.jobs.key_set import KeySet
from rankport.runtime.store.contract import TokenNamespace

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Pruned:
    """Outcome of pruning."""

    deleted: int = 0
    refused: str = ""  # why nothing was deleted, although something was to be


def prune(
    namespace: TokenNamespace,
    named: Sequence[KeySet],
    max_share: float,
    *,
    owns: Callable[[str], bool],
    doubt: str,
    waiting: Callable[[], None],
) -> Pruned:
    """Deletes the keys that the job `owns` and no set of `named` has. `waiting` is called now and then.

    None where there is a `doubt` of what the input names, or where they are more than `max_share` of the owned keys.
    """

    def looks() -> Iterator[tuple[list[str], int]]:
        for keys in chunks(filter(owns, namespace.keys()), _AT_ONCE):
            waiting()
            told = zip(*(keys_named.has(keys) for keys_named in named), strict=True)
            yield [key for key, has in zip(keys, told, strict=True) if not any(has)], len(keys)

    gone = stored = 0
    for keys, looked_at in looks():
        gone, stored = gone + len(keys), stored + looked_at
    if not gone:
        return Pruned()
    if doubt:
        return Pruned(refused=doubt)
    if gone / stored > max_share:
        return Pruned(refused=_too_many(gone, stored, max_share))
    leaving = (key for keys, _ in looks() for key in keys)
    return Pruned(sum(namespace.delete_many(keys) for keys in chunks(leaving, _AT_ONCE)))


def _too_many(gone: int, stored: int, max_share: float) -> str:
    return (
        f"{gone:,} of {counted(stored, 'stored item', ',')} {be(gone)} not in the input, {gone / stored:.1%}, over "
        f"max_prune_share {max_share:g} (--max-prune-share): it may be cut short; if they are to go, give a larger "
        "share, up to 1"
    )
