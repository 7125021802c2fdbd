"""Answers of a bundle with a head over whole texts, mode by mode, beside those of its source."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.kinds.texts.pairs.samples import SampledTexts
from rankport.exporters.proof.compare import Logits, RankValues, compare, worst_of
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Series
from rankport.exporters.proof.prove import Progress
from rankport.exporters.proof.windows import LONGEST_WINDOW, tokens_across
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.backends.contract import TextBackend
from rankport.runtime.bundle.manifest import ModeParity, Role

_ALONE = 1
PASS_TOKENS = 2 * tokens_across(LONGEST_WINDOW, 2 * LONGEST_WINDOW)
"""Tokens of a pass of several texts, padding included: two that cross the longest window. Attention matrices of more,
each by the square of the longest text, would not fit an ordinary machine."""

Answers = Mapping[str, Mapping[int, Logits]]
"""Logits [pairs, labels] by mode, and by how many pairs shared a pass; the largest is all of them."""


def answers_of(
    place: Runnable, role: Role, samples: Sequence[SampledTexts], on_progress: Progress
) -> Answers:
    """Answers the samples of each mode in one pass, plain ones and those across a window alone too."""
    answers: dict[str, dict[int, Logits]] = {}
    with closing(load_text_backend(place.bundle, role, place.config)) as backend:
        for part in samples:
            on_progress(f"parity: {part.mode}")
            both = part.is_plain or part.is_across_window
            sizes = (_ALONE, len(part.runs)) if both else (len(part.runs),)
            answers[part.mode] = {size: _in_passes(backend, part, size) for size in sizes}
    return answers


def _in_passes(backend: TextBackend, part: SampledTexts, size: int) -> Logits:
    passes = [
        backend.compute(part.runs.part(start, end)) for start, end in passes_of(part.runs.lengths, size)
    ]
    return np.concatenate(passes).astype(np.float32)


def passes_of(lengths: NDArray[np.int64], size: int) -> Iterator[tuple[int, int]]:
    """Cuts texts of these lengths, in their order, into passes of at most `size`, with room for each: first, end."""
    start, longest = 0, 0
    for place, length in enumerate(lengths.tolist()):
        longest = max(longest, length)
        if place > start and (place - start == size or (place - start + 1) * longest > PASS_TOKENS):
            yield start, place
            start, longest = place, length
    yield start, len(lengths)


def modes_of(
    samples: Sequence[SampledTexts],
    expected: Mapping[str, NDArray[np.float32]],
    answers: Answers,
    order: RankValues,
) -> list[ModeParity]:
    """Compares the answers of each mode, and of each size of a pass, with the source's logits by mode."""
    modes = []
    for part in samples:
        for size, logits in answers[part.mode].items():
            name = _name(part, size)
            modes.append(compare(name, part.cut(expected[part.mode]), part.cut(logits), order))
    return modes


def _name(part: SampledTexts, size: int) -> str:
    passes = "one_item" if size == _ALONE else "batch"
    if part.is_across_window:
        return f"{passes}/{part.mode}"
    return passes if part.is_plain else part.mode


def rankings_of(
    samples: Sequence[SampledTexts], answers: Answers, order: RankValues
) -> dict[int, list[NDArray[np.float64]]]:
    """Gives what orders the texts of each plain request, by the texts in a pass."""
    (part,) = (part for part in samples if part.is_plain)
    return {size: [order(rows) for rows in part.cut(logits)] for size, logits in answers[part.mode].items()}


def series_of(
    samples: Sequence[SampledTexts], expected: Mapping[str, NDArray[np.float32]], answers: Answers
) -> Series:
    """Puts all logits of source and bundle beside each other."""
    pairs = [(expected[part.mode], logits) for part in samples for logits in answers[part.mode].values()]
    return Series.of("logits", [source for source, _ in pairs], [bundle for _, bundle in pairs])


def noise_of(
    samples: Sequence[SampledTexts],
    still: Mapping[str, NDArray[np.float32]],
    moved: Mapping[str, NDArray[np.float32]],
    order: RankValues,
) -> ModeParity:
    """Compares the source with itself moved, at its worst over the modes."""
    return worst_of(
        [compare("noise", part.cut(still[part.mode]), part.cut(moved[part.mode]), order) for part in samples]
    )
