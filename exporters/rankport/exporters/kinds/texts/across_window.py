"""Runs of token ids that cross a window which the other samples of a proof do not reach the end of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from rankport.exporters.checkpoints.forms.onnx_model import OnnxModel
from rankport.exporters.kinds.texts.encoder_reference import whole_text
from rankport.exporters.kinds.texts.pairs.reference import PairIds
from rankport.exporters.kinds.texts.pairs.samples import SampledTexts
from rankport.exporters.kinds.texts.rows import runs_of
from rankport.exporters.kinds.texts.samples import Runs
from rankport.exporters.kinds.window_sizes import stated_windows, window_sizes
from rankport.exporters.proof.windows import BEYOND_WINDOW, tokens_across, windows_to_cross

_SHORT = 8


@dataclass(frozen=True, slots=True)
class AcrossWindow:
    """Runs across one window, and the shortest window that no sample crosses."""

    runs: Runs  # none, or a short one, and one that leaves the window behind, beside which it is padded
    unseen: int | None

    @classmethod
    def of(
        cls, model: nn.Module, vocab_size: int, sampled: int, most: int, *, least: int = 1
    ) -> "AcrossWindow":
        """Draws runs for a model of texts of `least` to `most` tokens, where the longest other sample has `sampled`."""
        windows = windows_of_texts(model) if sampled < most else ()
        window, unseen = windows_to_cross(windows, sampled, most)
        if window is None:
            return cls((), unseen)
        rng = np.random.default_rng(window)
        lengths = (min(least + _SHORT, most), tokens_across(window, most))
        return cls([rng.integers(0, vocab_size, length) for length in lengths], unseen)

    def beside(self, runs: Runs) -> Mapping[str, Runs]:
        """Puts them beside the other runs, by form."""
        return {"": runs} | ({BEYOND_WINDOW: self.runs} if self.runs else {})


def with_runs_across(
    parts: Sequence[SampledTexts], model: nn.Module, vocab_size: int, most: int
) -> tuple[list[SampledTexts], int | None]:
    """Adds to texts, or pairs, of a head those that cross a window, where none of them does.

    Gives the shortest window that none crosses too. What is added has no tokens around its texts: they are ids.
    """
    sampled = max(int(part.runs.lengths.max()) for part in parts)
    across = AcrossWindow.of(model, vocab_size, sampled, most)
    if not across.runs:
        return [*parts], across.unseen
    like, seconds = parts[0], np.array([len(run) // 2 for run in across.runs])
    runs = replace(runs_of(across.runs), seconds=None if like.runs.seconds is None else seconds)
    typed = like.source[0].types is not None
    source = [
        PairIds(run, (np.arange(len(run)) >= second).astype(np.int64) if typed else None)
        for run, second in zip(across.runs, seconds, strict=True)
    ]
    return [*parts, SampledTexts(BEYOND_WINDOW, runs, source, [len(source)])], across.unseen


def windows_of_texts(model: nn.Module) -> Collection[int]:
    """Lists the windows within which a model reads whole texts; an encoder-decoder has none."""
    if model.config.is_encoder_decoder:  # type: ignore[union-attr]
        return ()
    if isinstance(model, OnnxModel):
        return stated_windows(model)
    return window_sizes(model, lambda: model(**whole_text(model, np.arange(1, 1 + _SHORT))))
