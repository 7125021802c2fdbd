"""`PairEncoder`: prefix and item as two texts of one sequence, for models that read both together.

Owns how a pair that is too long is cut: as the `tokenizers` library does, whose strategies the manifest names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.types import Item, Prefix, Truncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import ManifestDraft, Pair, Prompt, Segment
from rankport.runtime.prompt.encoded import EncodedItems
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.item_template import ItemTemplate
from rankport.runtime.prompt.parts import PromptParts
from rankport.runtime.prompt.template import WAY_OUT, PromptTemplate, far_over, number_told
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import TokenRuns, places_within

_NO_LIMIT = 2**31 - 1


class PairEncoder:
    """Immutable once built: safe to use from several threads at once."""

    def __init__(self, manifest: ManifestDraft, tokenizer: Tokenizer | None) -> None:
        """Tokenizes the prompt's literals. Raises `BundleError` if they do not fit tokenizer, model or limit."""
        assert manifest.pair is not None
        parts = PromptParts.of(manifest, tokenizer)
        assert isinstance(parts.prefix, PromptTemplate), "a pair's texts are tokenized apart"
        self._pair = manifest.pair
        self._first = _Frame.of(ItemTemplate.of(parts.prefix))
        self._second = _Frame.of(parts.items().template)
        # Neither text has a limit of its own: what is cut of one depends on the other.
        limits = manifest.limits.model_copy(
            update={"max_prefix_tokens": _NO_LIMIT, "max_item_tokens": _NO_LIMIT}
        )
        unlimited = manifest.model_copy(update={"limits": limits})
        self._far = far_over(manifest.pair.max_tokens)
        self._prompt = PromptEncoder(unlimited, tokenizer)
        self._starts = PromptEncoder(unlimited, tokenizer, kept=manifest.pair.max_tokens)
        firsts = [_as_item(segment) for segment in manifest.prompt.prefix]
        apart = {"limits": limits, "prompt": Prompt(prefix=[], item=firsts)}
        self._firsts = PromptEncoder(manifest.model_copy(update=apart), tokenizer)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """Makes the encoder of an opened bundle. Raises `BundleError` if its tokenizer and prompt do not fit."""
        name = bundle.manifest.tokenizer
        return cls(bundle.manifest, None if name is None else Tokenizer.from_file(bundle.file(name)))

    def encode(
        self,
        prefix: Prefix,
        items: Iterable[Item] | ItemColumns,
        truncation: Truncation = "error",
        *,
        skip_empty: bool = False,
    ) -> EncodedItems:
        """Encodes each pair of the prefix and an item as one run, whose second text is the item.

        Token ids as a prefix are all that stands before the item, and never cut. An empty item is as
        `PromptEncoder.encode_items` has it.

        Raises:
            InvalidRequest: prefix or an item is malformed or empty; the message has the item's index.
            LimitExceeded: a pair is too long and `truncation` is "error", or no cut of one text makes it fit.
        """
        prompt = self._starts if truncation == "error" else self._prompt
        given = prompt.encode_prefix(prefix, truncation)
        first = given.run.ids
        prompt = self._prompt_behind(len(first), truncation)
        encoded = prompt.encode_items(items, truncation, skip_empty=skip_empty)
        if given.truncated:
            encoded = replace(encoded, truncated=encoded.places)
        frame = self._first if isinstance(prefix, str | Mapping) else _Frame(len(first), 0, keep_end=False)
        every = _Firsts(
            TokenRuns.of_lengths(first, np.array([len(first)])), np.zeros(len(encoded.runs), np.int64)
        )
        return self._encoded(every, frame, encoded, truncation)

    def encode_apart(
        self,
        firsts: ItemColumns,
        seconds: ItemColumns,
        truncation: Truncation = "error",
        *,
        skip_empty: bool = False,
    ) -> EncodedItems:
        """Encodes pairs, each with a first text of its own: as many first texts as second ones.

        Token ids take the place of a text, first or second, within the tokens that the prompt puts around it.

        A pair is empty of which either text is. Raises as `encode` does.
        """
        try:
            first = self._firsts.encode_items(firsts, truncation, skip_empty=skip_empty)
        except InvalidRequest as error:
            raise type(error)(f"first texts: {error}") from error
        longest = int(first.runs.lengths.max(initial=0))
        encoded = self._prompt_behind(longest, truncation).encode_items(
            seconds, truncation, skip_empty=skip_empty
        )
        if len(first.empty):
            encoded = _without(encoded, first.empty)
        if len(first.truncated):
            cut = np.intersect1d(first.truncated, encoded.places)
            encoded = replace(encoded, truncated=np.union1d(encoded.truncated, cut))
        every = _Firsts(first.runs, np.searchsorted(first.places, encoded.places))
        return self._encoded(every, self._first, encoded, truncation)

    def _prompt_behind(self, first: int, truncation: Truncation) -> PromptEncoder:
        """Gives the encoder of second texts, which reads far ones whole where it counts which text is the longer."""
        return self._starts if truncation == "error" or first < self._far else self._prompt

    def _encoded(
        self, firsts: "_Firsts", frame: "_Frame", items: EncodedItems, truncation: Truncation
    ) -> EncodedItems:
        kept = self._kept(firsts.lengths - frame.tokens, frame, items, truncation)
        runs = _joined(firsts, frame, items.runs, self._second, kept)
        return replace(items, runs=runs, truncated=np.union1d(items.truncated, items.places[kept.cut]))

    def _kept(
        self, first: NDArray[np.int64], frame: "_Frame", items: EncodedItems, truncation: Truncation
    ) -> "_Kept":
        """Shares the room of each pair out. `first`: tokens of its first text within the frame. [pairs]"""
        second = items.runs.lengths - self._second.tokens
        room = self._pair.max_tokens - frame.tokens - self._second.tokens
        told = partial(number_told, most=self._pair.max_tokens)
        over = first + second > room
        if over.any() and truncation == "error":
            place = int(np.argmax(over))
            raise LimitExceeded(
                f"item {items.places[place]}: {told(first[place] + second[place])} tokens with the prefix's "
                f"{told(first[place])}, the pair has room for {room} (pair.max_tokens {self._pair.max_tokens}): "
                f"{WAY_OUT}"
            )
        firsts, seconds = _shares(first, second, room, self._pair)
        unfit = (firsts < np.minimum(first, 1)) | (seconds < np.minimum(second, 1))
        if unfit.any():
            place = int(np.argmax(unfit))
            raise LimitExceeded(
                f"item {items.places[place]}: prefix of {told(first[place])} and item of {told(second[place])} tokens "
                f"do not fit the pair's room of {room}, of which {self._pair.cut} cuts one: shorten the other"
            )
        return _Kept(firsts, seconds, (firsts < first) | (seconds < second))


@dataclass(frozen=True, slots=True)
class _Frame:
    """Literal tokens around one of the two texts, and which of its ends survives a cut."""

    before: int
    after: int
    keep_end: bool

    @classmethod
    def of(cls, template: ItemTemplate) -> "_Frame":
        return cls(len(template.before), len(template.after), template.slot.keep == "end")

    @property
    def tokens(self) -> int:
        return self.before + self.after

    def ranges(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64], kept: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lists begin and length of what stays of framed texts: frame, text, frame. [texts, 3] each"""
        ends = starts + lengths
        text = ends - self.after - kept if self.keep_end else starts + self.before
        count = np.full(len(starts), 1)
        begins = np.stack([starts, text, ends - self.after], axis=1)
        return begins, np.stack([count * self.before, kept, count * self.after], axis=1)


@dataclass(frozen=True, slots=True)
class _Firsts:
    """First texts in their frames, and which of them each pair has."""

    runs: TokenRuns
    which: NDArray[np.int64]  # [pairs]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each pair's first text, frame included. [pairs]"""
        return self.runs.lengths[self.which]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Places of each pair's first text among the ids. [pairs]"""
        return self.runs.offsets[:-1][self.which]


def _without(items: EncodedItems, empty: NDArray[np.int64]) -> EncodedItems:
    """Leaves out pairs that are empty for their first texts."""
    left = np.flatnonzero(~np.isin(items.places, empty))
    truncated = np.setdiff1d(items.truncated, empty)
    return EncodedItems(items.runs.take(left), items.places[left], truncated, np.union1d(items.empty, empty))


def _as_item(segment: Segment) -> Segment:
    """Makes the segment of a first text that of an item, by which many are encoded at once."""
    if segment.field is None:
        return segment
    return Segment(item=True, keep=segment.keep, max_tokens=segment.max_tokens)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Tokens of each pair's texts that stay. [pairs] each"""

    firsts: NDArray[np.int64]
    seconds: NDArray[np.int64]
    cut: NDArray[np.bool_]


def _shares(
    first: NDArray[np.int64], second: NDArray[np.int64], room: int, pair: Pair
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Says how many tokens of each text stay in `room`. [pairs] each

    longest-first as `tokenizers` has it: the longer text gives way down to the length of the shorter; then both have
    half, the longer one (the second of equal ones) what is odd.
    """
    if pair.cut == "only-second":
        return first, np.minimum(second, room - first)
    if pair.cut == "only-first":
        return np.minimum(first, room - second), second
    shorter = np.minimum(first, second)
    longer = np.maximum(shorter, room - shorter)
    halves = shorter + longer > room
    shorter = np.where(halves, room // 2, shorter)
    longer = np.where(halves, room - room // 2, longer)
    first_is_longer = first > second
    fits = first + second <= room
    return (
        np.where(fits, first, np.where(first_is_longer, longer, shorter)),
        np.where(fits, second, np.where(first_is_longer, shorter, longer)),
    )


def _joined(firsts: _Firsts, first: _Frame, items: TokenRuns, second: _Frame, kept: _Kept) -> TokenRuns:
    """Puts what stays of first text and item behind each other, pair by pair."""
    source = np.concatenate([firsts.runs.ids, items.ids])
    first_begins, first_lengths = first.ranges(firsts.starts, firsts.lengths, kept.firsts)
    behind = items.offsets[:-1] + len(firsts.runs.ids)
    second_begins, second_lengths = second.ranges(behind, items.lengths, kept.seconds)
    begins = np.concatenate([first_begins, second_begins], axis=1).reshape(-1)
    lengths = np.concatenate([first_lengths, second_lengths], axis=1)
    ids = source[np.repeat(begins, lengths.reshape(-1)) + places_within(lengths.reshape(-1))]
    runs = TokenRuns.of_lengths(ids, lengths.sum(axis=1))
    return replace(runs, seconds=first_lengths.sum(axis=1))
