"""`ItemTemplate`: the part of a prompt around an item, filled for all items of a request at once.

Works on token ids only; where they come from is `encoder`'s business.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import RaggedIds
from rankport.protos.errors import LimitExceeded
from rankport.protos.types import Truncation
from rankport.runtime.prompt.template import Ids, PromptTemplate, Slot
from rankport.runtime.tokens import places_within


@dataclass(frozen=True, slots=True)
class ItemTemplate:
    """Literal ids before and after the one slot of an item."""

    template: PromptTemplate
    slot: Slot
    before: Ids
    after: Ids

    @classmethod
    def of(cls, template: PromptTemplate) -> "ItemTemplate":
        """Cuts a template at its slot, of which an item's has one."""
        (slot,) = template.slots
        place = next(place for place, piece in enumerate(template.pieces) if isinstance(piece, Slot))
        before = [piece for piece in template.pieces[:place] if not isinstance(piece, Slot)]
        after = [piece for piece in template.pieces[place + 1 :] if not isinstance(piece, Slot)]
        return cls(template, slot, _concatenated(before), _concatenated(after))

    def fill(
        self, values: RaggedIds, truncation: Truncation, places: NDArray[np.int64]
    ) -> tuple[RaggedIds, NDArray[np.bool_]]:
        """Makes the ids of every item, `values` in its slot, and says which of them were cut. [items]

        Raises:
            LimitExceeded: under "error", an item is over a limit; the message names the first by its place, and
                `places` has all.
        """
        lengths = values.lengths
        room = self.template.room
        most = room if self.slot.max_tokens is None else min(self.slot.max_tokens, room)
        cut: NDArray[np.bool_] = lengths > most
        if truncation == "error" and cut.any():
            first = int(np.argmax(cut))
            try:
                self.template.refuse_overlong([values.run(first)], f"item {places[first]}")
            except LimitExceeded as error:
                error.places = tuple(places[cut].tolist())
                raise
        return self.around_all(values, np.minimum(lengths, most)), cut

    def around(self, ids: Ids) -> Ids:
        """Puts the literals around one item's ids, whatever their length."""
        return np.concatenate([self.before, ids, self.after])

    def around_all(self, values: RaggedIds, kept: NDArray[np.int64]) -> RaggedIds:
        """Puts the literals around the first or the last `kept` ids of each run."""
        begins = values.offsets[:-1] if self.slot.keep == "start" else values.offsets[1:] - kept
        place = places_within(kept)
        source = values.ids[np.repeat(begins, kept) + place]
        before, after = len(self.before), len(self.after)
        if not before and not after:
            return RaggedIds.of_lengths(source, kept)
        filled = RaggedIds.of_lengths(
            np.empty(len(source) + len(kept) * (before + after), np.int64), kept + before + after
        )
        starts, ends = filled.offsets[:-1], filled.offsets[1:]
        filled.ids[np.repeat(starts + before, kept) + place] = source
        filled.ids[starts[:, None] + np.arange(before)] = self.before
        filled.ids[ends[:, None] - after + np.arange(after)] = self.after
        return filled


def _concatenated(pieces: list[Ids]) -> Ids:
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)
