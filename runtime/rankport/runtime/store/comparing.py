"""Difference of two namespaces by keys and content hashes: what was added, removed and changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rankport.runtime.store.contract import TokenNamespace

Change = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Item that the stores do not have alike. A corrupt value counts as not there."""

    key: str
    change: Change  # from the first to the second


def differences(first: TokenNamespace, second: TokenNamespace) -> Iterator[Difference]:
    """Yields what tells the second from the first, in no promised order; holds a page of keys at a time.

    Raises:
        StoreError: a store cannot be read.
    """
    for keys in _pages(first):
        before, after = first.content_hashes(keys), second.content_hashes(keys)
        for key, old, new in zip(keys, before, after, strict=True):
            if old is not None and new is None:
                yield Difference(key, "removed")
            elif old is not None and old != new:
                yield Difference(key, "changed")
    for keys in _pages(second):
        before, after = first.content_hashes(keys), second.content_hashes(keys)
        for key, old, new in zip(keys, before, after, strict=True):
            if old is None and new is not None:
                yield Difference(key, "added")


def _pages(namespace: TokenNamespace) -> Iterator[Sequence[str]]:
    return ([entry.key for entry in page] for page in namespace.pages())
