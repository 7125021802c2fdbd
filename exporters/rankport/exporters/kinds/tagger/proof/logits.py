"""Logits of a tagger's tokens: the source one text at a time, the bundle alone and in a batch, and their distance."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.kinds.texts.encoder_reference import whole_text
from rankport.exporters.kinds.texts.rows import runs_of
from rankport.exporters.kinds.texts.samples import Runs
from rankport.exporters.proof.batches import Rankings, batch_independence
from rankport.exporters.proof.compare import relative_error, require_finite_results, with_ties
from rankport.exporters.proof.metrics import kendall_tau
from rankport.runtime.backends.contract import TokenBackend
from rankport.runtime.bundle.manifest import BatchIndependence, ModeParity
from rankport.runtime.config import EngineConfig

Rows = Sequence[NDArray[np.float32]]  # a text each: [tokens, labels]
_RANKED = 200  # tokens whose labels are ranked


def source_logits(model: nn.Module, runs: Runs) -> Rows:
    """Runs the checkpoint's own forward, one text at a time, without padding."""
    with torch.no_grad(), quiet():
        return [model(**whole_text(model, run)).logits[0].float().numpy() for run in runs]


def bundle_logits(backend: TokenBackend, runs: Runs) -> Mapping[str, Rows]:
    """Runs the bundle on texts alone, and padded together: the short ones, and the longest beside two of them.

    Or beside the only one.
    """
    alone = [backend.compute(runs_of([run])) for run in runs]
    longest = max(range(len(runs)), key=lambda i: len(runs[i]))
    short = [i for i in range(len(runs)) if i != longest]
    batched = dict(zip(short, _batch(backend, [runs[i] for i in short]), strict=True))
    first, *second = (runs[i] for i in short[:2])
    batched[longest] = _batch(backend, [first, runs[longest], *second])[1]
    return {"one_item": alone, "batch": [batched[i] for i in range(len(runs))]}


def compare_logits(mode: str, expected: Rows, actual: Rows) -> ModeParity:
    """Measures errors over all logits; Kendall's tau is of the labels of a token, agreement of the first of them."""
    require_finite_results(mode, expected, actual)
    source, bundle = np.concatenate(expected).astype(np.float64), np.concatenate(actual).astype(np.float64)
    errors = np.abs(bundle - source)
    tokens = np.unique(np.linspace(0, len(source) - 1, min(len(source), _RANKED)).astype(np.int64))
    ranked = [with_ties(source[token], bundle[token]) for token in tokens]
    return ModeParity(
        mode=mode,
        items=len(expected),
        max_abs_error=float(errors.max()),
        mean_abs_error=float(errors.mean()),
        relative_error=relative_error(errors, source),
        kendall_tau=float(np.mean([kendall_tau(*pair) for pair in ranked])),
        top_k_agreement=float(np.mean([first.argmax() == second.argmax() for first, second in ranked])),
    )


def batches_of_modes(answers: Mapping[str, Rows]) -> BatchIndependence:
    """Compares the labels of texts read alone with those of all but the longest read together."""
    alone, together = answers["one_item"], answers["batch"]
    return batch_independence({1: _by_token(alone), len(alone) - 1: _by_token(together)})


def batches_of_sweep(
    backend: TokenBackend, runs: Runs, config: EngineConfig, on_size: Callable[[int], None]
) -> BatchIndependence:
    """Labels the texts in batches of 1, 2, 4, … up to as many as a pass of `config` has tokens for."""
    most = max(1, int(config.max_batch_tokens / np.mean([len(run) for run in runs])))
    by_size = {}
    for size in sorted({*(2**power for power in range(most.bit_length())), most}):
        on_size(size)
        rows = [
            row for start in range(0, len(runs), size) for row in _batch(backend, runs[start : start + size])
        ]
        by_size[size] = _by_token(rows)
    return batch_independence(by_size)


def _batch(backend: TokenBackend, runs: Runs) -> Rows:
    rows = backend.compute(runs_of(runs))
    return np.split(rows, np.cumsum([len(run) for run in runs])[:-1])


def _by_token(rows: Rows) -> Rankings:
    """Takes each token as a request whose items are labels."""
    return [token.astype(np.float64) for row in rows for token in row]
