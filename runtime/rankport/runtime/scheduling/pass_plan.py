"""Plan of the next pass: pure functions over lengths and tokens.

Owns the budgets and how much padding a pass may have; `backends.layouts` pads. Keeps no state: fairness comes from the
order of the requests and from what large ones may have of a pass, both of which `turns` says. The first one is always
served, whatever its size.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.scheduling.prefix_cache import common_length
from rankport.runtime.scheduling.work import PassSize


@dataclass(frozen=True, slots=True)
class PassLimits:
    """Bounds of one pass."""

    max_tokens: int
    max_padding_ratio: float  # padded layout / real tokens
    max_bulk_tokens: int | None = None  # of large requests together; None: as many as of all

    def left(self, tokens: int, bulk_tokens: int, large: bool) -> int:
        """Counts the tokens that a request may still have of a pass with so many, of which large ones have some."""
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
        grown = outline.add(index, prefix.past, items=1, longest=size, tokens=size)
        alike = computed.setdefault((prefix.branch, int(prefix.tokens[0])), [])
        if outline.empty or (size <= left and grown.fits(limits) and not _repeats(prefix, alike)):
            outline, takes[index] = grown, size
            bulk_tokens += size * prefix.large
            alike.append(prefix.tokens[:size])
    return takes


def plan_items(work: Sequence[ItemWork], limits: PassLimits) -> list[int]:
    """Plans how many items each request scores in this pass, from its shortest on, 0 for those left out. [requests]"""
    takes = [0] * len(work)
    outline, bulk_tokens = _Outline(), 0
    for index, items in enumerate(work):
        left = limits.left(outline.tokens, bulk_tokens, items.large)
        most = _level_count(items.lengths, left, limits.max_padding_ratio)
        # Where all a request could bring would leave other rows short, it brings as much as the fullest has.
        choices = (max(most, 1),) if outline.empty else (most, min(most, outline.fullest))
        for count in filter(None, choices):
            tokens = int(items.lengths[:count].sum())
            grown = outline.add(items.branch, items.past, count, int(items.lengths[count - 1]), tokens)
            if outline.empty or grown.fits(limits):
                outline, takes[index] = grown, count
                bulk_tokens += tokens * items.large
                break
    return takes


def items_size(stage: str, work: Sequence[ItemWork], takes: Sequence[int]) -> PassSize:
    """Sizes the pass that takes so many items of each request."""
    rows: Counter[Hashable] = Counter()
    tokens = longest = 0
    for items, take in zip(work, takes, strict=True):
        if take:
            rows[items.branch] += take
            tokens += int(items.lengths[:take].sum())
            longest = max(longest, int(items.lengths[take - 1]))
    return PassSize(stage, rows.total(), tokens, len(rows) * max(rows.values()) * longest)


def prefill_size(takes: Sequence[int]) -> PassSize:
    """Sizes the pass that computes so many tokens of each request's prefix."""
    runs = sum(1 for take in takes if take)
    return PassSize("prefill", runs, sum(takes), runs * max(takes))


@dataclass(frozen=True, slots=True)
class _Outline:
    """The rectangle a pass is padded to: [prefixes, items of the fullest one, tokens of the longest item]."""

    rows: dict[Hashable, int] = field(default_factory=dict)  # items by prefix
    longest: int = 0
    tokens: int = 0
    past: int = 0  # over the prefixes
    longest_past: int = 0

    @property
    def empty(self) -> bool:
        return not self.rows

    @property
    def fullest(self) -> int:
        return max(self.rows.values(), default=0)

    def add(self, branch: Hashable, past: int, items: int, longest: int, tokens: int) -> "_Outline":
        return _Outline(
            rows={**self.rows, branch: self.rows.get(branch, 0) + items},
            longest=max(self.longest, longest),
            tokens=self.tokens + tokens,
            past=self.past + (0 if branch in self.rows else past),
            longest_past=max(self.longest_past, past),
        )

    def fits(self, limits: PassLimits) -> bool:
        """Says whether tokens, padded items and padded prefixes keep within the limits."""
        ratio, rows = limits.max_padding_ratio, len(self.rows)
        return (
            self.tokens <= limits.max_tokens
            and rows * self.fullest * self.longest <= ratio * self.tokens
            and rows * self.longest_past <= ratio * self.past
        )


def _level_count(lengths: NDArray[np.int64], max_tokens: int, max_padding_ratio: float) -> int:
    """Counts the first, ascending lengths that keep within the tokens and the padding."""
    if lengths[0] == lengths[-1]:  # nothing is padded
        return min(max(max_tokens, 0) // int(lengths[0]), lengths.size)
    lengths = lengths[: max(max_tokens, 0)]  # each is at least one token
    tokens = np.cumsum(lengths)
    padded = lengths * np.arange(1, lengths.size + 1)
    over = np.flatnonzero((tokens > max_tokens) | (padded > max_padding_ratio * tokens))
    return int(over[0]) if over.size else lengths.size


def _repeats(prefix: PrefixWork, alike: Sequence[NDArray[np.int64]]) -> bool:
    """Says whether one of those computed on its branch has at least half of its tokens."""
    return any(2 * common_length(tokens, prefix.tokens) >= prefix.tokens.size for tokens in alike)
