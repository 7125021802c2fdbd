"""Seeded sample requests for the proof of an export: lengths from one token to the limits, ids over the vocabulary."""

from collections.abc import Iterable, Sequence

import numpy as np

from rankport.exporters.kinds.ranker.proof.modes import SampleRequest
from rankport.exporters.proof.windows import BEYOND, BEYOND_WINDOW, LONGEST, LONGEST_WINDOW
from rankport.runtime.bundle.manifest import Limits
from rankport.runtime.tokens import EMBEDDED, TokenRun

_TYPICAL_PREFIX = (0, 1, 9, 33, 64)
_TYPICAL_ITEM = 24
_ITEMS = 8


def sample_requests(
    vocab_size: int,
    hidden_size: int,
    limits: Limits,
    embedding_scale: float | None,
    *,
    ends: Sequence[int] = (),
    window: int | None = None,
    seed: int = 0,
) -> list[SampleRequest]:
    """Requests of text items, and of embedding-token items where `embedding_scale` (their typical norm) is given.

    Every other item of several tokens ends in one or two of the tokens `ends`, at which a head may read otherwise.
    A `window` of attention is crossed by two requests more: text, of the form BEYOND_WINDOW.
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
        longest_prefix = min(limits.max_prefix_tokens, LONGEST)
        longest_item = min(limits.max_item_tokens, LONGEST)
        items = [
            _item(rng, form, length, vocab_size, hidden_size, embedding_scale) for length in (longest_item, 1)
        ]
        items = [_ended(item, place, ends, vocab_size) for place, item in enumerate(items)]
        requests.append(SampleRequest(_text(rng, longest_prefix, vocab_size), tuple(items), form))
    if window is not None:
        requests += _beyond(window, vocab_size, limits, ends)
    return requests


def are_sampled(limits: Limits) -> bool:
    """Tells whether samples are as long as the limits, so that they cross all windows within them."""
    return max(limits.max_prefix_tokens, limits.max_item_tokens) <= LONGEST


def window_to_cross(windows: Iterable[int], limits: Limits) -> tuple[int | None, int | None]:
    """Finds the shortest window that the samples need one more request to cross, and the shortest that none crosses.

    A window is crossed where prefix and item together are longer, and the prefix alone where the limits allow it.
    """
    prefix, item = limits.max_prefix_tokens, limits.max_item_tokens
    sampled_prefix = min(prefix, LONGEST)
    sampled = sampled_prefix + min(item, LONGEST)
    uncrossed = sorted(
        {
            window
            for window in windows
            if sampled <= window < prefix + item or sampled_prefix <= window < prefix
        }
    )
    crossed = next((window for window in uncrossed if window <= LONGEST_WINDOW), None)
    return crossed, next((window for window in uncrossed if window != crossed), None)


def _beyond(window: int, vocab_size: int, limits: Limits, ends: Sequence[int]) -> list[SampleRequest]:
    """Makes a request whose prefix leaves the window behind, or its item where no prefix is so long, and a short one.

    Beside the short one in a pass, windows are counted over padding.
    """
    rng = np.random.default_rng(window)
    longest = min(limits.max_prefix_tokens, window + BEYOND)
    item = min(limits.max_item_tokens, max(BEYOND, window + BEYOND - longest))
    requests = []
    for prefix_length, length in ((min(9, longest), min(BEYOND, item)), (longest, item)):
        items = [TokenRun(rng.integers(0, vocab_size, tokens)) for tokens in (length, 1)]
        ended = (_ended(run, place, ends, vocab_size) for place, run in enumerate(items))
        requests.append(SampleRequest(_text(rng, prefix_length, vocab_size), tuple(ended), BEYOND_WINDOW))
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
