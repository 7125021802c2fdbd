"""`JoinedItems`: item texts that are tokenized together with the text around them, all in one call.

Limits count the tokens that hold a character of the item's text. Items that fit, the common case, cost what others do;
only of those that may not fit are the places of tokens looked up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import RaggedIds
from rankport.protos.errors import LimitExceeded
from rankport.protos.types import Truncation
from rankport.runtime.prompt.item_template import ItemTemplate
from rankport.runtime.prompt.joined.groups import FilledGroup, Group
from rankport.runtime.prompt.template import (
    Ids,
    Slot,
    TokenLimit,
    refuse_overlong_slot,
    refuse_overlong_whole,
    require_room,
)
from rankport.runtime.prompt.tokenizer import Tokenizer

Tokenize = Callable[[Sequence[str]], RaggedIds]


@dataclass(frozen=True, slots=True)
class JoinedItems:
    """A group with the item's slot, and the literal ids around it."""

    group: Group
    around: ItemTemplate  # of the whole group's ids, which no limit of its own cuts
    limit: TokenLimit
    tokenizer: Tokenizer
    empty: Ids  # of the group, where an item has no token of its own

    @classmethod
    def of(
        cls, group: Group, around: ItemTemplate, limit: TokenLimit, tokenizer: Tokenizer, least: int = 1
    ) -> "JoinedItems":
        """Makes the part of these. Raises `BundleError` if it leaves less than `least` tokens to an item."""
        items = cls(group, around, limit, tokenizer, FilledGroup.fill(group, [""], tokenizer).tokens.ids)
        require_room(len(items.empty) + items._literals, limit, least, "prompt.item")
        return items

    def fill(
        self, texts: Sequence[str], tokenize: Tokenize, truncation: Truncation, places: NDArray[np.int64]
    ) -> tuple[RaggedIds, NDArray[np.bool_], NDArray[np.bool_]]:
        """Tokenizes every item in its template, and says which were cut, and which have no token of their own. [items]

        Raises:
            LimitExceeded: under "error", an item is over a limit; the message names the first by its place, and
                `places` has all.
        """
        runs = self._without_context(tokenize([self.group.text([text]) for text in texts]), texts)
        empty = self._are_empty(runs)
        room = self.limit.tokens - self._literals
        cut = np.zeros(len(texts), np.bool_)
        doubtful = np.flatnonzero(runs.lengths > min(self.slot.max_tokens or room, room))
        if len(doubtful):
            fitted: dict[int, Ids] = {}
            refusals: dict[int, LimitExceeded] = {}
            for index in doubtful.tolist():
                try:
                    fitted[index], cut[index] = self._fit(texts[index], truncation, f"item {places[index]}")
                except LimitExceeded as error:
                    refusals[int(places[index])] = error
            if refusals:
                first = next(iter(refusals.values()))
                first.places = tuple(refusals)
                raise first
            runs = _replaced(runs, fitted)
        return self.around.around_all(runs, runs.lengths), cut, empty

    @property
    def slot(self) -> Slot:
        """The item's."""
        (slot,) = self.group.slots
        return slot

    @property
    def _literals(self) -> int:
        """Tokens around the group."""
        return len(self.around.before) + len(self.around.after)

    def _are_empty(self, runs: RaggedIds) -> NDArray[np.bool_]:
        """Says of which items the tokenizer takes every character away, zero-width ones say. [items]"""
        alike: NDArray[np.bool_] = runs.lengths == len(self.empty)
        for index in np.flatnonzero(alike).tolist():
            alike[index] = np.array_equal(runs.run(index), self.empty)
        return alike

    def _without_context(self, runs: RaggedIds, texts: Sequence[str]) -> RaggedIds:
        """Drops the tokens of the group's context from every run."""
        if not self.group.context:
            return runs
        kept = [
            self.group.without_context(runs.run(index), [text], self.tokenizer)
            for index, text in enumerate(texts)
        ]
        return _joined(kept)

    def _fit(self, text: str, truncation: Truncation, where: str) -> tuple[Ids, bool]:
        """Tokenizes an item with its limits kept, and says whether it was cut."""
        filled, cut = FilledGroup.fill(self.group, [text], self.tokenizer), False
        while True:
            tokens, (count,) = len(filled.tokens.ids), filled.counts
            if truncation == "error":
                refuse_overlong_slot(self.slot, count, where)
                refuse_overlong_whole((self.slot,), tokens + self._literals, self.limit, where)
            room = self.limit.tokens - self._literals - (tokens - count)
            share = max(min(count, self.slot.max_tokens or count, room), 0)
            if share == count:
                # The places of a library that fuses unknown characters are wrong behind them.
                if count > room:
                    raise LimitExceeded(
                        f"{where}: has {tokens + self._literals} tokens however it is cut, {self.limit.name} is "
                        f"{self.limit.tokens}: shorten it, and leave out what the tokenizer does not know"
                    )
                return filled.tokens.ids, cut
            filled, cut = filled.shortened([share], self.tokenizer), True


def _replaced(runs: RaggedIds, others: dict[int, Ids]) -> RaggedIds:
    return _joined([others.get(index, runs.run(index)) for index in range(len(runs))])


def _joined(runs: Sequence[Ids]) -> RaggedIds:
    ids = np.concatenate([np.empty(0, np.int64), *runs])  # of no runs too: all items may be blank
    return RaggedIds.of_lengths(ids, np.array([len(run) for run in runs], np.int64))
