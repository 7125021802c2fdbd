"""`Units`: what has a label in texts, and the characters that each is made of.

A unit is a word, for which its first token speaks, or every token by itself. Words are those that were given, else the
pieces that the tokenizer splits a text into before it looks up tokens. White space is no unit, and belongs to none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import offsets_of
from rankport.protos.messages.text_units import code_points
from rankport.protos.tagging import TagTexts
from rankport.runtime.prompt.tokenizer import PlacedTokens

_WHITE = np.array([point for point in range(0x3001) if chr(point).isspace()], np.uint32)


@dataclass(frozen=True, slots=True)
class Units:
    """Units of a request's texts behind each other."""

    token: NDArray[np.int64]  # [units] that speaks for each, counted through all texts
    starts: NDArray[np.int64]  # [units] in characters of its text
    ends: NDArray[np.int64]  # [units] more than `starts`
    offsets: NDArray[np.int64]  # [texts + 1] of the units
    word: NDArray[np.int64]  # [units] word of each, counted through all texts


def units_of(texts: TagTexts, tokens: PlacedTokens, *, by_word: bool) -> Units:
    """Finds the units of texts that were tokenized."""
    text = np.repeat(np.arange(len(texts)), tokens.ids.lengths)
    first = np.arange(len(text))
    if by_word and len(text):
        # A token that is of no word is one by itself.
        goes_on = (text[1:] == text[:-1]) & (tokens.words[1:] == tokens.words[:-1]) & (tokens.words[1:] >= 0)
        first = np.flatnonzero(np.concatenate([[True], ~goes_on]))
    starts, ends = tokens.starts, tokens.ends
    if len(first):
        starts, ends = np.minimum.reduceat(starts, first), np.maximum.reduceat(ends, first)
    text, word = text[first], tokens.words[first]
    if texts.words is not None:
        assert texts.word_offsets is not None
        word = word + texts.word_offsets[text]
        begins = _word_begins(texts.words, texts.word_offsets)[word]
        starts, ends = starts + begins, ends + begins
        if by_word:
            starts, ends = begins, begins + _lengths(texts.words)[word]
    starts, ends = trimmed(texts, text, starts, ends)
    kept = np.flatnonzero(starts < ends)
    counts = np.bincount(text[kept], minlength=len(texts))
    return Units(first[kept], starts[kept], ends[kept], offsets_of(counts), word[kept])


def _word_begins(words: Sequence[str], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places the words in their texts, joined by one space. [words]"""
    before = offsets_of(_lengths(words) + 1)
    return before[:-1] - np.repeat(before[offsets[:-1]], np.diff(offsets))


def _lengths(words: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(len, words), np.int64, len(words))


def trimmed(
    texts: TagTexts, text: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leaves out white space at both ends of each place; what is nothing else ends where it starts."""
    points = code_points("".join(texts.texts))
    before = offsets_of(_lengths(texts.texts))[text]
    white = np.flatnonzero(np.isin(points, _WHITE))
    if not len(white):
        return starts, ends
    dark = np.flatnonzero(~np.isin(points, _WHITE))
    next_dark = np.append(dark, len(points))[np.searchsorted(dark, starts + before)] - before
    last_dark = np.concatenate([[-1], dark])[np.searchsorted(dark, ends + before)] - before
    starts = np.minimum(next_dark, ends)
    return starts, np.maximum(last_dark + 1, starts)
