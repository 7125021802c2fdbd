"""`Group`: texts and slots of a prompt that the tokenizer takes as one text, empty and filled, and how it is cut."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rankport.runtime.prompt.template import Ids, Slot
from rankport.runtime.prompt.tokenizer import SpannedTokens, Tokenizer


@dataclass(frozen=True, slots=True)
class Group:
    """Texts and slots that are one text for the tokenizer."""

    parts: tuple[str | Slot, ...]
    context: str = ""  # a text before it, tokenized with it, whose tokens the prefix has
    context_ids: tuple[int, ...] = ()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Slots among the parts, in order."""
        return tuple(part for part in self.parts if isinstance(part, Slot))

    @property
    def is_joined(self) -> bool:
        """True where the tokens of a value depend on what is around it."""
        return len(self.parts) > 1 or bool(self.context)

    def text(self, values: Sequence[str]) -> str:
        """Joins context and parts, with `values` in the slots."""
        rest = iter(values)
        return self.context + "".join(next(rest) if isinstance(part, Slot) else part for part in self.parts)

    def spans(self, values: Sequence[str]) -> list[tuple[int, int]]:
        """Finds the characters of each value in `text`. [slots] of (begin, end)"""
        rest = iter(values)
        place, spans = len(self.context), []
        for part in self.parts:
            length = len(next(rest)) if isinstance(part, Slot) else len(part)
            if isinstance(part, Slot):
                spans.append((place, place + length))
            place += length
        return spans

    def ids(self, values: Sequence[str], tokenizer: Tokenizer) -> Ids:
        """Tokenizes the group with `values` in the slots. [tokens]"""
        return self.without_context(tokenizer.encode_batch([self.text(values)])[0], values, tokenizer)

    def without_context(self, ids: Ids, values: Sequence[str], tokenizer: Tokenizer) -> Ids:
        """Drops the tokens of the context; where the value changed them, tokenizes without it."""
        count = len(self.context_ids)
        if tuple(ids[:count].tolist()) == self.context_ids:
            return ids[count:]
        return replace(self, context="", context_ids=()).ids(values, tokenizer)


@dataclass(frozen=True, slots=True)
class FilledGroup:
    """A group with its values, tokenized with places."""

    group: Group
    values: tuple[str, ...]
    tokens: SpannedTokens  # without those of the context
    spans: list[tuple[int, int]]  # of the values, in characters of the text

    @classmethod
    def of(
        cls, group: Group, values: Sequence[str], tokens: SpannedTokens, tokenizer: Tokenizer
    ) -> "FilledGroup":
        """Takes the tokens of `group.text(values)`, and leaves those of the context out."""
        count = len(group.context_ids)
        if tuple(tokens.ids[:count].tolist()) != group.context_ids:
            group = replace(group, context="", context_ids=())
            count, tokens = 0, tokenizer.encode_spans([group.text(values)])[0]
        return cls(group, tuple(values), tokens.part(count, len(tokens.ids)), group.spans(values))

    @classmethod
    def fill(cls, group: Group, values: Sequence[str], tokenizer: Tokenizer) -> "FilledGroup":
        """Tokenizes a group."""
        return cls.of(group, values, tokenizer.encode_spans([group.text(values)])[0], tokenizer)

    @property
    def counts(self) -> list[int]:
        """Tokens that hold a character of each value. [slots]"""
        return [last - first for first, last in map(self._value_tokens, range(len(self.values)))]

    def shortened(self, shares: Sequence[int], tokenizer: Tokenizer) -> "FilledGroup":
        """Cuts the values that have more tokens than their share; it may have to be done again, and ends at ""."""
        counts = self.counts
        over = [index for index, share in enumerate(shares) if counts[index] > share]
        if over == [len(counts) - 1] and self._ends_in_value:
            # As pipelines cut, and a value by itself: the first tokens of the whole text.
            most = len(self.tokens.ids) - counts[-1] + max(shares[-1], 0)
            return replace(self, tokens=self.tokens.part(0, most))
        return self.fill(self.group, self.cut_values(shares), tokenizer) if over else self

    def cut_values(self, shares: Sequence[int]) -> list[str]:
        """Cuts the values that have more tokens than their share to whole characters, each always shorter. [slots]"""
        return [
            self._cut(index, share) if count > share else value
            for index, (value, count, share) in enumerate(zip(self.values, self.counts, shares, strict=True))
        ]

    @property
    def _ends_in_value(self) -> bool:
        last = self.group.parts[-1]
        return isinstance(last, Slot) and last.keep == "start"

    def _value_tokens(self, index: int) -> tuple[int, int]:
        """Finds the first token that holds a character of a value, and the one after its last."""
        begin, end = self.spans[index]
        first = int(np.searchsorted(self.tokens.ends, begin, side="right"))
        last = int(np.searchsorted(self.tokens.starts, end, side="left"))
        return first, (max(first, last) if begin < end else first)

    def _cut(self, index: int, kept: int) -> str:
        """Cuts a value to the whole characters of `kept` of its tokens, fewer than it has; always shorter."""
        begin, _ = self.spans[index]
        first, last = self._value_tokens(index)
        value, starts, ends = self.values[index], self.tokens.starts, self.tokens.ends
        if kept <= 0:
            return ""
        if self.group.slots[index].keep == "start":
            place = min(int(ends[first + kept - 1]), int(starts[first + kept])) - begin
            return value[: min(max(place, 0), len(value) - 1)]
        place = max(int(starts[last - kept]), int(ends[last - kept - 1])) - begin
        return value[max(place, 1) :]


Piece = Ids | Group
