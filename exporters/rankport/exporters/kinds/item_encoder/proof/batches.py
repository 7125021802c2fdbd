"""An item encoder's answers over batch sizes: what each text's nearest others are, whoever shares its batch."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.kinds.texts.embeddings import similarities
from rankport.exporters.kinds.texts.rows import Answers, runs_of
from rankport.exporters.kinds.texts.samples import Runs
from rankport.exporters.proof.batches import Rankings, batch_independence
from rankport.exporters.proof.compare import TIE
from rankport.runtime.backends.contract import TextBackend
from rankport.runtime.bundle.manifest import BatchIndependence
from rankport.runtime.config import EngineConfig

_FLOAT16_TIE = 1e-3
"""Cosines of float16 tokens closer than this have no order: the last bit of a sum decides a rounding."""


def batches_of_modes(answers: Answers) -> BatchIndependence:
    """Compares texts encoded alone with all but the longest encoded together."""
    alone, together = answers["one_item"], answers["batch"]
    return batch_independence({1: _nearest(alone), len(alone) - 1: _nearest(together)}, _tie(alone))


def batches_of_sweep(
    backend: TextBackend,
    runs: Runs,
    config: EngineConfig,
    on_size: Callable[[int], None] = lambda size: None,
) -> BatchIndependence:
    """Encodes the texts in batches of 1, 2, 4, … up to as many as a pass of `config` has tokens for."""
    most = max(1, int(config.max_batch_tokens / np.mean([len(run) for run in runs])))
    by_size = {}
    tie = TIE
    for size in sorted({*(2**power for power in range(most.bit_length())), most}):
        on_size(size)
        batches = [
            backend.compute(runs_of(runs[start : start + size])) for start in range(0, len(runs), size)
        ]
        tokens = np.concatenate(batches)
        by_size[size], tie = _nearest(tokens), _tie(tokens)
    return batch_independence(by_size, tie)


def _nearest(tokens: NDArray[np.floating]) -> Rankings:
    """Gives each text's cosines to the others."""
    cosines = similarities(tokens)
    return [np.delete(row, place) for place, row in enumerate(cosines)]


def _tie(tokens: NDArray[np.floating]) -> float:
    return _FLOAT16_TIE if tokens.dtype == np.float16 else TIE
