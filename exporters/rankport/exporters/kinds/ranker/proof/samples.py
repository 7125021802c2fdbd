"""Seeded sample requests for the proof of an export: lengths from one token to the limits, ids over the vocabulary."""

from collections.abc import Sequence

import numpy as np

from rankport.exporters.kinds.ranker.proof.modes import SampleRequest
from rankport.runtime.bundle.manifest import Limits
from rankport.runtime.tokens import EMBEDDED, TokenRun

_TYPICAL_PREFIX = (0, 1, 9, 33, 64)
_TYPICAL_ITEM = 24
_ITEMS = 8
_LONGEST_PROVEN = 2048
"""Lengths beyond this are not sampled: the reference's attention matrix would not fit an ordinary machine."""


def sample_requests(
    vocab_size: int,
    hidden_size: int,
    limits: Limits,
    embedding_scale: float | None,
    *,
    ends: Sequence[int] = (),
    seed: int = 0,
) -> list[SampleRequest]:
    """Requests of text items, and of embedding-token items where `embedding_scale` (their typical norm) is given.

    Every other item of several tokens ends in one or two of the tokens `ends`, at which a head may read otherwise.
    """
    rng = np.random.default_rng(seed)
    forms = ["text"] if embedding_scale is None else ["text", "embeddings"]
    requests = []
    for form in forms:
        lengths = [min(length, limits.max_prefix_tokens) for length in _TYPICAL_PREFIX]
        for prefix_length in dict.fromkeys(lengths):
            items = [
                _item(
                    rng,
                    form,
                    int(rng.integers(1, min(_TYPICAL_ITEM, limits.max_item_tokens) + 1)),
                    vocab_size,
                    hidden_size,
                    embedding_scale,
                )
                for _ in range(_ITEMS)
            ]
            items = [_ended(item, place, ends, vocab_size) for place, item in enumerate(items)]
            requests.append(SampleRequest(_text(rng, prefix_length, vocab_size), tuple(items), form))
        longest_prefix = min(limits.max_prefix_tokens, _LONGEST_PROVEN)
        longest_item = min(limits.max_item_tokens, _LONGEST_PROVEN)
        items = [
            _item(rng, form, length, vocab_size, hidden_size, embedding_scale) for length in (longest_item, 1)
        ]
        items = [_ended(item, place, ends, vocab_size) for place, item in enumerate(items)]
        requests.append(SampleRequest(_text(rng, longest_prefix, vocab_size), tuple(items), form))
    return requests


def _text(rng: np.random.Generator, length: int, vocab_size: int) -> TokenRun:
    return TokenRun(rng.integers(0, vocab_size, length))


def _ended(item: TokenRun, place: int, ends: Sequence[int], vocab_size: int) -> TokenRun:
    """Puts tokens of `ends` at the end of an item at an even place, and never leaves it with nothing else."""
    ids = item.ids
    others = [token for token in range(min(vocab_size, len(ends) + 1)) if token not in ends]
    if ends and ids[0] in ends and others:
        ids[0] = others[0]
    count = min(1 + place // 2 % 2, len(ids) - 1) if ends and place % 2 == 0 else 0
    for back in range(1, count + 1):
        if ids[-back] != EMBEDDED:
            ids[-back] = ends[(place // 2 + back) % len(ends)]
    return item


def _item(
    rng: np.random.Generator, form: str, length: int, vocab_size: int, hidden_size: int, scale: float | None
) -> TokenRun:
    ids = rng.integers(0, vocab_size, length)
    if form == "text":
        return TokenRun(ids)
    # One to all of the item's tokens injected, at random places; the last stays text half of the time.
    assert scale is not None
    places = rng.choice(length, size=int(rng.integers(1, length + 1)), replace=False)
    ids[places] = EMBEDDED
    vectors = rng.standard_normal((len(places), hidden_size)) * (scale / hidden_size**0.5)
    return TokenRun(ids, vectors.astype(np.float32))
