"""Texts that have far more tokens than are kept of them: only their start is read.

A tokenizer takes a second for a megabyte. That a text's first tokens do not depend on what follows is not assumed: two
starts of it must agree in them, else the whole text is read. Where a word is cut as is likeliest for all of it, as by
Unigram, both may agree and the whole text not: the words of these tokens must end before the start does.
"""

from collections.abc import Sequence

import numpy as np

from rankport.runtime.prompt.template import far_over
from rankport.runtime.prompt.tokenizer import Tokenizer

_START_CHARS = 32_768
_CHARS_PER_TOKEN = 16  # more than most texts have
_WHOLE = 4  # a text of fewer starts than that is read as it is
_APART_CHARS = 7_919  # of the two starts: a prime, so that no pattern of both ends alike


def starts_of(tokenizer: Tokenizer, texts: Sequence[str], most: Sequence[int | None]) -> Sequence[str]:
    """Cuts texts of which at most the first `most` tokens are kept, None: any. [texts]

    Of a text with far more a start is left, which has `far_over(most)` tokens at least.
    """
    if max(map(len, texts), default=0) < _WHOLE * _START_CHARS:
        return texts
    return [
        text if kept is None else _start(tokenizer, text, kept)
        for text, kept in zip(texts, most, strict=True)
    ]


def _start(tokenizer: Tokenizer, text: str, most: int) -> str:
    wanted = far_over(most)
    chars = max(_START_CHARS, _CHARS_PER_TOKEN * wanted)
    while _WHOLE * chars <= len(text):
        shorter, longer = tokenizer.encode_batch([text[: chars - _APART_CHARS], text[:chars]])
        if min(len(shorter), len(longer)) >= wanted:
            same = np.array_equal(shorter[:wanted], longer[:wanted])
            return text[:chars] if same and _words_end(tokenizer, text[:chars], wanted) else text
        chars *= _WHOLE
    return text


def _words_end(tokenizer: Tokenizer, start: str, wanted: int) -> bool:
    """Says whether what follows a start is of no word of its first tokens, where a word's end may change them."""
    if not tokenizer.weighs_whole_words:
        return True
    words = tokenizer.encode_places([start]).words
    return bool(words[wanted - 1] < words[-1])
