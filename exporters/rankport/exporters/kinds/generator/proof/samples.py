"""Sample texts that a proof of a generator decodes: random tokens behind prompts, short and long.

Texts that cross a window which the others do not reach the end of are a form of their own, and so is one as long as
the limits allow: positions that no other sample has may be wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.window_sizes import window_sizes
from rankport.exporters.proof.windows import BEYOND, BEYOND_WINDOW, LONGEST, windows_to_cross
from rankport.runtime.bundle.manifest import Limits

_STEPS = 12
_LAST_STEPS = 24
"""Tokens of the one text at the end of the limits: of fewer, half precision alone may change the order too far."""
_LONGEST_PROMPT = 96  # of those that no window is to end in
TO_THE_END = "to_the_end"
"""Form of a text that ends at the last place that the limits allow."""


@dataclass(frozen=True, slots=True)
class SampleText:
    """A prompt and the text behind it, as token ids."""

    prompt: NDArray[np.int64]  # [prompt tokens], at least one
    text: NDArray[np.int64]  # [text tokens]

    @property
    def fed(self) -> NDArray[np.int64]:
        """Tokens that are decoded: the prompt's last, then the text but for its last. [text tokens]"""
        return np.concatenate([self.prompt[-1:], self.text[:-1]])


def draw_samples(source: Checkpoint, limits: Limits) -> tuple[Mapping[str, Sequence[SampleText]], int | None]:
    """Draws texts of as many tokens each, by form, and gives the shortest window that none of them crosses.

    The shortest prompt, middling ones and the longest, beyond windows that are not too long for it. Of another window a
    short one and one that leaves it behind, by a prompt that may be longer than any that is served: to a step it is the
    same whether the tokens before it were read or written.
    """
    rng, vocabulary = np.random.default_rng(0), source.vocab_size
    windows, total = _windows(source), limits.max_prefix_tokens + limits.max_item_tokens
    beyond = [window + _STEPS for window in windows if window < min(total, LONGEST)]
    longest = min(limits.max_prefix_tokens, max([_LONGEST_PROMPT, *beyond]))
    steps = min(_STEPS, limits.max_item_tokens)
    lengths = sorted({1, 2, max(1, longest // 3), longest})
    texts = [_drawn(rng, vocabulary, length, steps) for length in lengths]
    forms = {"": texts}
    # The last token of a text is not fed.
    window, unseen = windows_to_cross(windows, longest + steps - 1, total - 1)
    if window is not None:
        behind = min(total - steps, window + BEYOND)
        forms[BEYOND_WINDOW] = [
            _drawn(rng, vocabulary, length, steps) for length in (min(longest, BEYOND), behind)
        ]
    last_steps = min(_LAST_STEPS, limits.max_item_tokens)
    last = min(total - last_steps, LONGEST)
    ends = [len(text.prompt) + len(text.text) for drawn in forms.values() for text in drawn]
    if last + last_steps > max(ends):
        forms[TO_THE_END] = [_drawn(rng, vocabulary, last, last_steps)]
    return forms, unseen


def _windows(source: Checkpoint) -> frozenset[int]:
    ids = torch.ones(1, 3, dtype=torch.int64)
    return window_sizes(source.model, lambda: source.model(input_ids=ids, use_cache=False))


def _drawn(rng: np.random.Generator, vocabulary: int, prompt: int, steps: int) -> SampleText:
    return SampleText(rng.integers(0, vocabulary, prompt), rng.integers(0, vocabulary, steps))
