"""Texts that have far more tokens than are kept of them: only their start is tokenized.

A tokenizer takes a second for a megabyte. That a text's first tokens do not depend on what follows is not assumed: two
starts of it must agree in them, else the whole text is tokenized.
"""

from collections.abc import Sequence

import numpy as np

from rankport.protos.columns import RaggedIds
from rankport.runtime.prompt.template import Ids, far_over
from rankport.runtime.prompt.tokenizer import Tokenizer

_START_CHARS = 32_768
_CHARS_PER_TOKEN = 16  # more than most texts have
_WHOLE = 4  # a text of fewer starts than that is tokenized as it is
_APART_CHARS = 7_919  # of the two starts: a prime, so that no pattern of both ends alike


def encode_kept(tokenizer: Tokenizer, texts: Sequence[str], most: Sequence[int | None]) -> RaggedIds:
    """Encodes texts of which at most the first `most` tokens are kept, None: any. [texts] runs.

    Of a text with far more the run is a start of its ids, of `far_over(most)`.
    """
    if max(map(len, texts), default=0) < _WHOLE * _START_CHARS:
        return tokenizer.encode_ragged(texts)
    starts = [_start(tokenizer, text, kept) for text, kept in zip(texts, most, strict=True)]
    others = tokenizer.encode_ragged(
        [text for text, start in zip(texts, starts, strict=True) if start is None]
    )
    rest = iter(range(len(others)))
    runs = [others.run(next(rest)) if start is None else start for start in starts]
    return RaggedIds.of_lengths(np.concatenate(runs), np.array([len(run) for run in runs], np.int64))


def _start(tokenizer: Tokenizer, text: str, most: int | None) -> Ids | None:
    """Encodes a start of a text that has `far_over(most)` tokens; None where only the whole text tells them."""
    if most is None:
        return None
    wanted = far_over(most)
    chars = max(_START_CHARS, _CHARS_PER_TOKEN * wanted)
    while _WHOLE * chars <= len(text):
        shorter, longer = tokenizer.encode_batch([text[: chars - _APART_CHARS], text[:chars]])
        if min(len(shorter), len(longer)) >= wanted:
            return longer[:wanted] if np.array_equal(shorter[:wanted], longer[:wanted]) else None
        chars *= _WHOLE
    return None
