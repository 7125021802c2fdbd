"""Samples that a proof of an item encoder encodes: token ids, and texts where there is a tokenizer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.proof.windows import LONGEST
from rankport.runtime.prompt.tokenizer import Tokenizer

Runs = Sequence[NDArray[np.int64]]
_TRIES = 1000
_AWKWARD = (
    "Senior Nurse",
    "  two  spaces\tand\na line ",
    "Köchin, Café & Söhne",
    "東京のコック",
    "a-b/c_d (e.f) 3,5 % ½",
)


def sample_runs(
    vocab_size: int, max_item_tokens: int, *, least: int = 1, count: int = 24, seed: int = 0
) -> Runs:
    """Draws token runs of lengths from `least` to the limit. [count]"""
    rng = np.random.default_rng(seed)
    longest = min(max_item_tokens, LONGEST)
    lengths = [least, min(least + 1, longest), longest]
    lengths += rng.integers(least, max(min(longest, 64), least) + 1, max(0, count - 3)).tolist()
    return [rng.integers(0, vocab_size, length) for length in lengths[:count]]


def sample_texts(tokenizer: Tokenizer, max_item_tokens: int, *, seed: int = 0) -> list[str]:
    """Draws texts of the vocabulary, from one token to more than the limit holds, and adds some of awkward spelling."""
    rng = np.random.default_rng(seed)
    longest = min(max_item_tokens, LONGEST)
    lengths = [1, 2, 5, longest // 4, longest // 2, longest, longest + longest // 4 + 8]
    lengths += rng.integers(1, min(longest, 48) + 1, 12).tolist()
    special = tokenizer.special_tokens()
    awkward = [text for text in _AWKWARD if _has_tokens(tokenizer, text)]
    return [*awkward, *(_text(tokenizer, rng, special, max(1, length)) for length in lengths)]


def overlong_text(texts: Sequence[str], max_item_tokens: int) -> str:
    """Joins texts to one of more tokens than the limit holds, whatever it is: for its token ids alone."""
    words = " ".join(texts).split()
    return " ".join(words * (max_item_tokens // len(words) + 2))


def _has_tokens(tokenizer: Tokenizer, text: str) -> bool:
    """Tells whether a tokenizer makes more of a text than blanks: without a token for what is unknown it may not."""
    return bool(tokenizer.decode(tokenizer.encode_batch([text])[0]).strip())


def _text(tokenizer: Tokenizer, rng: np.random.Generator, special: Sequence[str], length: int) -> str:
    """Decodes drawn tokens, without those that the text of a special token would become."""
    for _ in range(_TRIES):
        ids = rng.integers(0, tokenizer.vocab_size, length)
        text = tokenizer.decode([token for token in ids if tokenizer.decode([token]).strip() not in special])
        if not any(name in text for name in special) and _has_tokens(tokenizer, text):
            return text
    return _AWKWARD[0]  # hardly a token of the vocabulary is one of texts
