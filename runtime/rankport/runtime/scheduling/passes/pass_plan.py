"""Plan of the next pass: pure functions over lengths and tokens.

Owns the budgets and how much padding a pass may have; `backends.layouts` pads. Keeps no state: fairness comes from the
order of the requests and from what large ones may have of a pass, both of which `turns` says. The first one is always
served, whatever its size.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.scheduling.prefix_cache import common_length
from rankport.runtime.scheduling.work import PassSize

_NEARLY_FULL = 15 / 16
"""Part of a pass from which on no request is cut to fill the rest."""
_LEAST_PART_TOKENS = 128
"""Tokens below which a part of a request is not worth a pass of its own: a processor computes fewer slower."""
_LEVELS = 4
"""Numbers of items a prefix that a plan is tried with."""


@dataclass(frozen=True, slots=True)
class PassLimits:
    """Bounds of one pass."""

    max_tokens: int
    max_padding_ratio: float  # padded layout / real tokens
    max_bulk_tokens: int | None = None  # of large requests together; None: as many as of all
    enough_tokens: int | None = None  # from which on no further request takes part; None: as many as of any

    @property
    def full_tokens(self) -> float:
        """Tokens from which on a pass is full enough that no request is cut to fill the rest."""
        nearly = _NEARLY_FULL * self.max_tokens
        return nearly if self.enough_tokens is None else min(nearly, self.enough_tokens)

    def nearly_full(self, tokens: int) -> bool:
        """Says whether a pass of so many tokens is that full."""
        return tokens >= self.full_tokens

    def left(self, tokens: int, bulk_tokens: int, large: bool) -> int:
        """Counts the tokens that a request may still have of a pass with so many, of which large ones have some."""
        if self.enough_tokens is not None and tokens >= self.enough_tokens:
            return 0
        left = self.max_tokens - tokens
        if large and self.max_bulk_tokens is not None:
            left = min(left, self.max_bulk_tokens - bulk_tokens)
        return left


@dataclass(frozen=True, slots=True)
class PrefixWork:
    """Part of its prefix that a request has yet to compute."""

    tokens: NDArray[np.int64]  # [remaining], at least one
    past: int  # tokens before them, whose KV exists
    branch: Hashable  # equal where that KV is the same
    large: bool = False


@dataclass(frozen=True, slots=True)
class ItemWork:
    """Items that a request has yet to compute."""

    lengths: NDArray[np.int64]  # [remaining], ascending, at least one
    past: int  # prefix tokens
    branch: Hashable  # equal where the prefix is the same
    large: bool = False

    def tokens_of(self, count: int) -> int:
        """Counts the tokens of the next `count` items."""
        lengths = self.lengths
        if not count:
            return 0
        longest = int(lengths[count - 1])
        return count * longest if lengths[0] == longest else int(lengths[:count].sum())


@dataclass(frozen=True, slots=True)
class _Share:
    """Part of a pass that a request has."""

    branch: Hashable
    past: int
    items: int
    longest: int
    tokens: int

    @classmethod
    def of(cls, work: ItemWork, count: int) -> "_Share":
        """Takes the next `count` items."""
        return cls(work.branch, work.past, count, int(work.lengths[count - 1]), work.tokens_of(count))


@dataclass(slots=True)
class _Outline:
    """The rectangle a pass is padded to: [prefixes, items of the fullest one, tokens of the longest item]."""

    rows: dict[Hashable, int] = field(default_factory=dict)  # items by prefix
    fullest: int = 0
    longest: int = 0
    tokens: int = 0
    past: int = 0  # over the prefixes
    longest_past: int = 0

    @property
    def empty(self) -> bool:
        return not self.rows

    def add(self, share: _Share) -> None:
        """Grows by a share."""
        known = self.rows.get(share.branch, 0)
        self.rows[share.branch] = known + share.items
        self.fullest = max(self.fullest, known + share.items)
        self.longest = max(self.longest, share.longest)
        self.tokens += share.tokens
        self.past += 0 if known else share.past
        self.longest_past = max(self.longest_past, share.past)

    def has_room(self, share: _Share, limits: PassLimits) -> bool:
        """Says whether tokens, padded items and padded prefixes would keep within the limits with a share more."""
        ratio, known = limits.max_padding_ratio, self.rows.get(share.branch, 0)
        rows, tokens = len(self.rows) + (not known), self.tokens + share.tokens
        fullest, longest = max(self.fullest, known + share.items), max(self.longest, share.longest)
        past = self.past + (0 if known else share.past)
        return (
            tokens <= limits.max_tokens
            and rows * fullest * longest <= ratio * tokens
            and rows * max(self.longest_past, share.past) <= ratio * past
        )


def plan_prefill(work: Sequence[PrefixWork], limits: PassLimits) -> list[int]:
    """Plans the tokens each request computes of its prefix in this pass, 0 for those left out. [requests]

    Only the first may be cut into a chunk; others come whole. A request waits when another of this pass
    computes at least half of its tokens: it finds them cached next time.
    """
    takes = [0] * len(work)
    outline, bulk_tokens = _Outline(), 0
    computed: dict[tuple[Hashable, int], list[NDArray[np.int64]]] = {}  # by branch and first token
    for index, prefix in enumerate(work):
        left = limits.left(outline.tokens, bulk_tokens, prefix.large)
        size = min(prefix.tokens.size, left) if outline.empty else prefix.tokens.size
        # One run a prefix, so every run is a row of its own.
        share = _Share(index, prefix.past, items=1, longest=size, tokens=size)
        alike = computed.setdefault((prefix.branch, int(prefix.tokens[0])), [])
        if outline.empty or (
            size <= left and outline.has_room(share, limits) and not repeats(prefix.tokens, alike)
        ):
            outline.add(share)
            takes[index] = size
            bulk_tokens += size * prefix.large
            alike.append(prefix.tokens[:size])
    return takes


def plan_items(work: Sequence[ItemWork], limits: PassLimits) -> list[int]:
    """Plans how many items each request scores in this pass, from its shortest on, 0 for those left out. [requests]

    Requests come whole where they can: what is left of one would come again, with its prefix, and few others have as
    many items.
    """
    takes = _plan_in_turn(work, limits)
    taken = [index for index, take in enumerate(takes) if take]
    first_fills = limits.nearly_full(work[0].tokens_of(work[0].lengths.size))
    if first_fills or all(takes[index] == work[index].lengths.size for index in taken[1:]):
        return takes
    # The first has fewer items than others, which were cut to as many: better whole ones, and it padded.
    counts = sorted({items.lengths.size for items in work} - set(range(takes[0])), reverse=True)
    levels = counts[:: -(-len(counts) // _LEVELS) or 1]
    plans = [takes, *(_plan_at_level(work, limits, takes[0], level) for level in levels)]
    return max(plans, key=lambda plan: _worth(plan, work, limits))


def _plan_in_turn(work: Sequence[ItemWork], limits: PassLimits) -> list[int]:
    """Plans as `plan_items`, each request as far as it goes with those before it."""
    takes = [0] * len(work)
    outline, bulk_tokens = _Outline(), 0
    for index, items in enumerate(work):
        left = limits.left(outline.tokens, bulk_tokens, items.large)
        most = _level_count(items.lengths, left, limits.max_padding_ratio)
        if most < items.lengths.size and limits.nearly_full(outline.tokens):
            continue
        # Where all a request could bring would leave other rows short, it brings as much as the fullest has.
        choices = (max(most, 1),) if outline.empty else (most, min(most, outline.fullest))
        for count in filter(None, choices):
            share = _Share.of(items, count)
            if outline.empty or outline.has_room(share, limits):
                outline.add(share)
                takes[index] = count
                bulk_tokens += share.tokens * items.large
                break
    return takes


def _plan_at_level(work: Sequence[ItemWork], limits: PassLimits, first: int, level: int) -> list[int]:
    """Plans `first` items of the first request and at most `level` of the others, those with most items first."""
    shares, chosen = [_Share.of(work[0], first)], [0]
    tokens, bulk_tokens = shares[0].tokens, shares[0].tokens * work[0].large
    for index, items in enumerate(work[1:], 1):
        left = limits.left(tokens, bulk_tokens, items.large)
        count = min(_level_count(items.lengths, left, limits.max_padding_ratio), level)
        if not count or (count < min(items.lengths.size, level) and limits.nearly_full(tokens)):
            continue
        share = _Share.of(items, count)
        shares.append(share)
        chosen.append(index)
        tokens += share.tokens
        bulk_tokens += share.tokens * items.large
    return _fullest_first(shares, chosen, len(work), limits)


def _fullest_first(
    shares: Sequence[_Share], chosen: Sequence[int], requests: int, limits: PassLimits
) -> list[int]:
    """Plans the first share, and of the others, from the one with most items on, as many as leave room for it.

    Share i is of request `chosen[i]`. [requests]
    """
    outline, added, most = _Outline(), list[int](), 0
    for place in sorted(range(1, len(shares)), key=lambda place: -shares[place].items):
        if outline.empty or outline.has_room(shares[place], limits):
            outline.add(shares[place])
            added.append(place)
            most = len(added) if outline.has_room(shares[0], limits) else most
    takes = [0] * requests
    for place in (0, *added[:most]):
        takes[chosen[place]] = shares[place].items
    return takes


def _worth(plan: Sequence[int], work: Sequence[ItemWork], limits: PassLimits) -> tuple[float, int]:
    """Ranks plans: by their tokens, nearly full as good as full, then by how few requests they cut."""
    tokens = sum(items.tokens_of(take) for items, take in zip(work, plan, strict=True))
    cut = sum(0 < take < items.lengths.size for items, take in zip(work, plan, strict=True))
    return min(tokens, limits.full_tokens), -cut


def spread(work: Sequence[ItemWork], limits: PassLimits, free: int) -> PassLimits:
    """Limits a pass over a lone request to the part of one of the free instances, so that each has one."""
    if free < 2 or len(work) > 1:
        return limits
    part = part_tokens(work[0].tokens_of(work[0].lengths.size), free)
    return replace(limits, max_tokens=min(limits.max_tokens, part))


def part_tokens(tokens: int, free: int) -> int:
    """Counts the tokens of a part for each of the free instances that is worth a pass; there may be fewer."""
    return max(-(-tokens // free), _LEAST_PART_TOKENS)


def items_size(stage: str, work: Sequence[ItemWork], takes: Sequence[int]) -> PassSize:
    """Sizes the pass that takes so many items of each request."""
    rows: Counter[Hashable] = Counter()
    tokens = longest = 0
    for items, take in zip(work, takes, strict=True):
        if take:
            rows[items.branch] += take
            tokens += items.tokens_of(take)
            longest = max(longest, int(items.lengths[take - 1]))
    return PassSize(stage, rows.total(), tokens, len(rows) * max(rows.values()) * longest)


def prefill_size(takes: Sequence[int]) -> PassSize:
    """Sizes the pass that computes so many tokens of each request's prefix."""
    runs = sum(1 for take in takes if take)
    return PassSize("prefill", runs, sum(takes), runs * max(takes))


def _level_count(lengths: NDArray[np.int64], max_tokens: int, max_padding_ratio: float) -> int:
    """Counts the first, ascending lengths that keep within the tokens and the padding."""
    if lengths[0] == lengths[-1]:  # nothing is padded
        return min(max(max_tokens, 0) // int(lengths[0]), lengths.size)
    lengths = lengths[: max(max_tokens, 0)]  # each is at least one token
    tokens = np.cumsum(lengths)
    padded = lengths * np.arange(1, lengths.size + 1)
    over = np.flatnonzero((tokens > max_tokens) | (padded > max_padding_ratio * tokens))
    return int(over[0]) if over.size else lengths.size


def repeats(prefix: NDArray[np.int64], alike: Iterable[NDArray[np.int64]]) -> bool:
    """Says whether one of those computed on the branch of `prefix` [tokens] has at least half of its tokens."""
    return any(2 * common_length(tokens, prefix) >= prefix.size for tokens in alike)
