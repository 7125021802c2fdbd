"""`TextReader`: texts or words to runs of tokens, and the rows of logits that speak for their words or tokens.

Owns long texts: refused, cut, or read in windows. What a unit is, `units` knows; ids come from the tokenizer, the frame
around them from the bundle's prompt.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import RaggedIds
from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.tagging import TagTexts, TagTruncation
from rankport.protos.wording import counted
from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.kinds.tagger.units import Units, units_of
from rankport.runtime.kinds.tagger.windows import Windows
from rankport.runtime.prompt.checks import refuse_unknown
from rankport.runtime.prompt.parts import PromptParts
from rankport.runtime.prompt.tokenizer import PlacedTokens, Tokenizer
from rankport.runtime.tokens import TokenRuns, places_within


@dataclass(frozen=True, slots=True)
class ReadTexts:
    """Texts of a request, ready for the engine."""

    runs: TokenRuns  # [windows] one a text unless it is long; none of a text without tokens
    units: Units
    rows: NDArray[np.int64]  # [units] row of the runs' tokens that speaks for each
    windows: NDArray[np.int64]  # [texts] of each
    cut: NDArray[np.bool_]  # [texts] read in part


class TextReader:
    """Immutable once built: safe to use from several threads at once."""

    def __init__(self, manifest: ManifestDraft, tokenizer: Tokenizer) -> None:
        """Raises `BundleError` if the prompt does not fit tokenizer, model or limits."""
        assert manifest.tagging is not None
        self._tokenizer = tokenizer
        self._vocab_size = manifest.shape.vocab_size
        self._by_word = manifest.tagging.unit == "word"
        self._frame = PromptParts.of(manifest, tokenizer).items().template
        self._limit = manifest.limits.max_item_tokens

    @property
    def room(self) -> int:
        """Tokens of a text that a window holds."""
        slot, room = self._frame.slot, self._frame.template.room
        return room if slot.max_tokens is None else min(room, slot.max_tokens)

    def read(
        self, texts: TagTexts, truncation: TagTruncation = "error", stride: int | None = None
    ) -> ReadTexts:
        """Reads the texts of a request. `stride`: tokens that neighbouring windows share; by default a quarter.

        Raises:
            InvalidRequest: a token outside the model's vocabulary, or a stride that no window has.
            LimitExceeded: a text is too long and `truncation` is "error".
        """
        overlap = self._overlap(truncation, stride)
        tokens = self._tokenize(texts)
        long = tokens.ids.lengths > self.room
        if truncation == "error" and long.any():
            self._refuse_long(int(np.argmax(long)), tokens)
        if truncation == "truncate" and long.any():
            tokens = self._kept(tokens)
        windows = Windows.of(tokens.ids.lengths, self.room, overlap)
        runs = self._frame.around_all(
            RaggedIds.of_lengths(tokens.ids.ids[windows.tokens], windows.lengths), windows.lengths
        )
        rows = np.repeat(runs.offsets[:-1] + len(self._frame.before), windows.lengths)
        rows = (rows + places_within(windows.lengths))[windows.speaks]
        units = units_of(texts, tokens, by_word=self._by_word)
        return ReadTexts(
            TokenRuns(runs.ids, runs.offsets),
            units,
            rows[units.token],
            np.bincount(windows.text, minlength=len(texts)),
            long & (truncation == "truncate"),
        )

    def _overlap(self, truncation: TagTruncation, stride: int | None) -> int:
        if stride is None:
            return self.room // 4
        if truncation != "windows":
            raise InvalidRequest(f"stride is {stride}: it goes with truncation 'windows', not {truncation!r}")
        if not stride < self.room:
            raise InvalidRequest(
                f"stride is {stride}: neighbouring windows share 0 to {self.room - 1} of their "
                f"{counted(self.room, 'token')}"
            )
        return stride

    def _tokenize(self, texts: TagTexts) -> PlacedTokens:
        if texts.words is None:
            tokens = self._tokenizer.encode_places(texts.texts)
        else:
            assert texts.word_offsets is not None
            edges = texts.word_offsets.tolist()
            lists = [texts.words[start:end] for start, end in pairwise(edges)]
            tokens = self._tokenizer.encode_word_places(lists)
        refuse_unknown(tokens.ids, self._vocab_size, lambda text: f"texts[{text}]", self._tokenizer.decode)
        return _without_blanks(texts, tokens)

    def _refuse_long(self, text: int, tokens: PlacedTokens) -> None:
        framed = tokens.ids.lengths[text] + len(self._frame.before) + len(self._frame.after)
        raise LimitExceeded(
            f"texts[{text}]: {counted(framed, 'token')}, the model reads {self._limit}: shorten it, or have it read in "
            "overlapping windows or cut (truncation 'windows' or 'truncate')"
        )

    def _kept(self, tokens: PlacedTokens) -> PlacedTokens:
        """Takes what fits of each text, from the end that the prompt keeps."""
        kept = np.minimum(tokens.ids.lengths, self.room)
        begins = tokens.ids.offsets[:-1]
        if self._frame.slot.keep == "end":
            begins = tokens.ids.offsets[1:] - kept
        return tokens.take(np.repeat(begins, kept) + places_within(kept), kept)


def _without_blanks(texts: TagTexts, tokens: PlacedTokens) -> PlacedTokens:
    """Leaves out the tokens of texts of blanks alone, which some tokenizers make tokens of."""
    filled = np.array([bool(text.strip()) for text in texts.texts], np.bool_)
    kept = np.where(filled, tokens.ids.lengths, 0)
    if kept.sum() == len(tokens.ids.ids):
        return tokens
    return tokens.take(np.flatnonzero(np.repeat(filled, tokens.ids.lengths)), kept)
