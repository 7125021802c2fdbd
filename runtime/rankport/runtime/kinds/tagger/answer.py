"""Decoded units to what a caller gets: spans in characters, tags of words, statuses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import offsets_of
from rankport.protos.tagging import TagResult, TagTexts, WordTags
from rankport.protos.types import ItemStatus, Usage
from rankport.runtime.kinds.tagger.decoder import Decoded
from rankport.runtime.kinds.tagger.labels import LabelScheme
from rankport.runtime.kinds.tagger.reading import ReadTexts
from rankport.runtime.kinds.tagger.spans import UnitSpans, tags_of
from rankport.runtime.kinds.tagger.units import Units, trimmed
from rankport.runtime.prompt.encoded import EMPTY


@dataclass(frozen=True, slots=True)
class Answered:
    """A request and what its units were decoded to."""

    texts: TagTexts
    read: ReadTexts
    decoded: Decoded
    failed: NDArray[np.bool_]  # [texts] the model gave a logit that is not finite

    def result(self, scheme: LabelScheme, usage: Usage, fingerprint: str) -> TagResult:
        """Makes the result."""
        units, spans = self.read.units, self.decoded.spans
        text = np.searchsorted(units.offsets, spans.first, side="right") - 1
        starts, ends = _apart(self.texts, text, units.starts[spans.first], units.ends[spans.last - 1])
        kept = np.flatnonzero((starts < ends) & ~self.failed[text])
        status, messages = self._outcomes()
        return TagResult(
            starts=starts[kept],
            ends=ends[kept],
            labels=spans.types[kept].astype(np.int32),
            scores=spans.scores[kept].astype(np.float32),
            offsets=offsets_of(np.bincount(text[kept], minlength=len(self.texts))),
            names=scheme.types,
            words=None if self.texts.words is None else self._word_tags(scheme, kept, text[kept]),
            status=status,
            messages=messages,
            usage=usage,
            fingerprint=fingerprint,
        )

    def _word_tags(self, scheme: LabelScheme, kept: NDArray[np.int64], text: NDArray[np.int64]) -> WordTags:
        """Gives each word a tag, of several spans in one that of the first; a word without a unit is outside."""
        words, offsets = self.texts.words, self.texts.word_offsets
        assert words is not None
        assert offsets is not None
        units, spans = self.read.units, self.decoded.spans
        first, last = units.word[spans.first[kept]], units.word[spans.last[kept] - 1] + 1
        begun = np.maximum(first, np.concatenate([[0], np.maximum.accumulate(last)])[:-1])
        own = np.flatnonzero(begun < last)
        over_words = UnitSpans(begun[own], last[own], spans.types[kept[own]], spans.scores[kept[own]])
        scores = np.full(len(words), np.nan, np.float32)
        word, unit = np.unique(units.word, return_index=True)
        scores[word] = self.decoded.scores[unit]
        scores[np.repeat(self.failed, np.diff(offsets))] = np.nan
        return WordTags(
            tags=tags_of(over_words, len(words), scheme),
            scores=scores,
            offsets=offsets,
            names=scheme.tag_names,
            first=first - offsets[text],
            last=last - offsets[text],
        )

    def _outcomes(self) -> tuple[tuple[ItemStatus, ...], tuple[str, ...]]:
        """Makes status and message of every text; most have nothing to say."""
        windows = self.read.windows
        status, messages = [ItemStatus.OK] * len(windows), [""] * len(windows)
        for text in np.flatnonzero(self.read.cut).tolist():
            status[text], messages[text] = ItemStatus.TRUNCATED, "cut to the tokens that the model reads"
        for text in np.flatnonzero(windows > 1).tolist():
            messages[text] = f"read in {windows[text]} overlapping windows"
        for text in np.flatnonzero(self.failed).tolist():
            status[text] = ItemStatus.FAILED
            messages[text] = "the model gave a logit that is not finite: check the text and the checkpoint"
        for text in np.flatnonzero(np.diff(self.read.units.offsets) == 0).tolist():
            status[text], messages[text] = ItemStatus.FAILED, f"text {EMPTY}"
        return tuple(status), tuple(messages)


def texts_with(failed: NDArray[np.bool_], units: Units) -> NDArray[np.bool_]:
    """Says which texts have a unit that failed. [texts]"""
    before = np.concatenate([[0], np.cumsum(failed)])
    return np.diff(before[units.offsets]) > 0


def _apart(
    texts: TagTexts, text: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gives a character that two spans have tokens of to the first: bytes of one emoji may be several tokens."""
    begun = starts.copy()
    begun[1:] = np.where(text[1:] == text[:-1], np.maximum(starts[1:], ends[:-1]), starts[1:])
    if np.array_equal(begun, starts):
        return starts, ends
    return trimmed(texts, text, np.minimum(begun, ends), ends)  # white space may follow that character
