"""Values that `Tagger` (in process) and `Client.tag` take and return alike: texts or words, and spans as columns.

Owns the check of what callers pass as far as it needs no model. Places are characters of a Python str: code points.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_items, checked_text
from rankport.protos.columns import offsets_of
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Brief, ItemStatus, Usage
from rankport.protos.wording import type_told

TagTruncation = Literal["error", "truncate", "windows"]
"""What happens to a text longer than the model reads: an error, a cut that its status tells, or overlapping windows."""


@dataclass(frozen=True, slots=True)
class TagTexts:
    """Texts of one request: each a str, or each a list of words."""

    texts: Sequence[str]  # [texts], of words those joined by one space
    words: Sequence[str] | None = None  # of all texts behind each other; None: texts were given
    word_offsets: NDArray[np.int64] | None = None  # [texts + 1] of `words`

    @classmethod
    def of(cls, texts: "Iterable[str | Sequence[str]] | TagTexts") -> "TagTexts":
        """Takes texts, or texts as lists of words.

        Raises:
            InvalidRequest: one text stands for the list, texts and words are mixed, or something is neither (token ids,
                say) or no valid Unicode; the message has its index.
        """
        if isinstance(texts, TagTexts):
            return texts
        listed = checked_items(texts, "texts")
        if not listed or isinstance(listed[0], str):
            return cls([_checked(text, index) for index, text in enumerate(listed)])
        lists = [_checked_words(text, index) for index, text in enumerate(listed)]
        return cls.of_words([word for words in lists for word in words], [len(words) for words in lists])

    @classmethod
    def of_words(cls, words: Sequence[str], counts: Sequence[int]) -> "TagTexts":
        """Joins the words of each text by one space; `counts` [texts] says how many each has."""
        offsets = offsets_of(np.array(counts, np.int64))
        pairs = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        return cls([" ".join(words[start:end]) for start, end in pairs], words, offsets)

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a text with a label."""

    start: int  # in characters of the text
    end: int  # behind the last one
    label: str
    score: float


@dataclass(frozen=True, slots=True, repr=False)
class WordTags(Brief):
    """Tags of the words of a request of words, spelled in the scheme of the model's labels: B-city, I-city, O."""

    tags: NDArray[np.int32]  # [words] place of each in `names`; never one that contradicts the spans
    scores: NDArray[np.float32]  # [words]; NaN of a word that is no token to the model
    offsets: NDArray[np.int64]  # [texts + 1] of the words
    names: tuple[str, ...]
    first: NDArray[np.int64]  # [spans] first word of each, counted within its text
    last: NDArray[np.int64]  # [spans] behind its last word

    def of(self, text: int) -> tuple[str, ...]:
        """Names the tags of one text's words. [its words]"""
        return tuple(
            self.names[tag] for tag in self.tags[self.offsets[text] : self.offsets[text + 1]].tolist()
        )


@dataclass(frozen=True, slots=True, repr=False)
class TagResult(Brief):
    """Spans of one request as columns, in the order of its texts and within a text of their place.

    Spans of a text do not overlap. `texts[i][start:end]` is a span's text; of a text of words, those joined by one
    space stand for `texts[i]`.
    """

    starts: NDArray[np.int64]  # [spans] in characters (code points) of the text
    ends: NDArray[np.int64]  # [spans] behind the last character
    labels: NDArray[np.int32]  # [spans] place of each in `names`
    scores: NDArray[np.float32]  # [spans] probability; docs/tagging.md says of what
    offsets: NDArray[np.int64]  # [texts + 1] of the spans
    names: tuple[str, ...]  # of labels without the scheme's prefixes
    words: WordTags | None  # of a request of words
    status: tuple[ItemStatus, ...]  # [texts]
    messages: tuple[str, ...]  # [texts] "" where there is nothing to say
    usage: Usage
    fingerprint: str  # of the bundle that answered

    def spans(self, text: int) -> tuple[Span, ...]:
        """Lists the spans of one text."""
        return tuple(
            Span(int(self.starts[i]), int(self.ends[i]), self.names[self.labels[i]], float(self.scores[i]))
            for i in range(self.offsets[text], self.offsets[text + 1])
        )


def checked_stride(stride: object) -> int | None:
    """Takes a number of tokens that neighbouring windows share, or None. Raises `InvalidRequest` otherwise."""
    if stride is None:
        return None
    if isinstance(stride, int | np.integer) and not isinstance(stride, bool) and 0 <= stride < 2**31:
        return int(stride)
    raise InvalidRequest(
        f"stride is {stride!r:.40}: it is how many tokens neighbouring windows share, 0 or more"
    )


def _checked(text: object, index: int) -> str:
    if isinstance(text, str):
        return checked_text(text, f"texts[{index}]")
    raise InvalidRequest(
        f"texts[{index}] is {type_told(text)} and texts[0] a text: give texts alone, or a list of words for each"
    )


def _checked_words(words: object, index: int) -> list[str]:
    if isinstance(words, str):
        raise InvalidRequest(
            f"texts[{index}] is a text and texts[0] a list: give texts alone, or words alone"
        )
    if not isinstance(words, Sequence) or isinstance(words, bytes | bytearray | memoryview):
        raise InvalidRequest(f"texts[{index}] is {type_told(words)}; give a text or a list of words")
    for place, word in enumerate(words):
        if not isinstance(word, str):
            raise InvalidRequest(
                f"texts[{index}][{place}] is {type_told(word)}; a tagger reads text or words, whose places it "
                "tells, never token ids"
            )
    return [checked_text(word, f"texts[{index}][{place}]") for place, word in enumerate(words)]
