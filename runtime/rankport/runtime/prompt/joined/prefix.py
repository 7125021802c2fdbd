"""`JoinedPrefix`: a prefix whose values are tokenized together with the text around them, and how it is cut to fit.

Limits count the tokens that hold a character of a value. A value inside its group is cut at characters, and the group
tokenized again; one at the end of its group loses its last tokens, as a value by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankport.protos.types import Truncation
from rankport.runtime.prompt.joined.groups import FilledGroup, Group, Piece
from rankport.runtime.prompt.template import (
    Ids,
    Slot,
    TokenLimit,
    fair_shares,
    refuse_overlong_slot,
    refuse_overlong_whole,
    require_room,
)
from rankport.runtime.prompt.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class JoinedPrefix:
    """Literal ids and groups in order, and the most tokens they may have together."""

    pieces: tuple[Piece, ...]
    slots: tuple[Slot, ...]
    limit: TokenLimit
    tokenizer: Tokenizer

    @classmethod
    def of(
        cls, pieces: Sequence[Piece], limit: TokenLimit, tokenizer: Tokenizer, where: str
    ) -> "JoinedPrefix":
        """Makes the prefix of these pieces. Raises `BundleError` if it exceeds the limit with empty values."""
        slots = tuple(slot for piece in pieces if isinstance(piece, Group) for slot in piece.slots)
        prefix = cls(tuple(pieces), slots, limit, tokenizer)
        require_room(len(prefix._join(prefix._fill([""] * len(slots)))), limit, 0, where)
        return prefix

    def fill(self, values: Sequence[str], truncation: Truncation, where: str) -> tuple[Ids, bool]:
        """Tokenizes the prefix with `values` in the slots, and says whether any was cut.

        Raises:
            LimitExceeded: under "error", a value or the whole is over its limit; `where` opens the message.
        """
        groups = self._fill(values)
        counts = _counts(groups)
        if truncation == "error":
            for slot, count in zip(self.slots, counts, strict=True):
                refuse_overlong_slot(slot, count, where)
            refuse_overlong_whole(self.slots, len(self._join(groups)), self.limit, where)
        cut = False
        # Shorter text may have more tokens than the share that it was cut to: it is cut again, and ends at "".
        while (shares := self._shares(groups)) != _counts(groups):
            rest, cut = iter(shares), True
            groups = [group.shortened([next(rest) for _ in group.values], self.tokenizer) for group in groups]
        return self._join(groups), cut

    def _shares(self, groups: Sequence[FilledGroup]) -> list[int]:
        """Shares the tokens out that the values may have. [slots]"""
        counts = _counts(groups)
        capped = [
            min(count, slot.max_tokens or count) for slot, count in zip(self.slots, counts, strict=True)
        ]
        literals = len(self._join(groups)) - sum(counts)
        return fair_shares(capped, max(self.limit.tokens - literals, 0))

    def _fill(self, values: Sequence[str]) -> list[FilledGroup]:
        rest = iter(values)
        groups = [piece for piece in self.pieces if isinstance(piece, Group)]
        given = [[next(rest) for _ in group.slots] for group in groups]
        texts = [group.text(own) for group, own in zip(groups, given, strict=True)]
        filled = zip(groups, given, self.tokenizer.encode_spans(texts), strict=True)
        return [FilledGroup.of(*group, self.tokenizer) for group in filled]

    def _join(self, groups: Sequence[FilledGroup]) -> Ids:
        rest = iter(groups)
        return np.concatenate(
            [next(rest).tokens.ids if isinstance(piece, Group) else piece for piece in self.pieces]
        )


def _counts(groups: Sequence[FilledGroup]) -> list[int]:
    """Counts the tokens of each value. [slots]"""
    return [count for group in groups for count in group.counts]
