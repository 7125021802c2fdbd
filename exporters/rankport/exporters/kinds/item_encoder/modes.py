"""The modes in which an item encoder serves, and its differences from its source in each.

The source runs one text at a time in torch, without padding or mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.kinds.item_encoder.module import EncoderModule
from rankport.exporters.options.tolerance import FLOAT16_KENDALL_TAU, Tolerance
from rankport.exporters.proof.compare import relative_error, require_finite_results
from rankport.exporters.proof.metrics import kendall_tau, top_k_agreement
from rankport.runtime.backends.contract import TextBackend
from rankport.runtime.bundle.manifest import ModeParity
from rankport.runtime.tokens import TokenRun, TokenRuns

Runs = Sequence[NDArray[np.int64]]
Answers = Mapping[str, NDArray[np.floating]]  # mode -> embedding tokens [runs, k, hidden]


def sample_runs(vocab_size: int, max_item_tokens: int, *, seed: int = 0) -> list[NDArray[np.int64]]:
    """Draws token runs of lengths from 1 to the limit. [24]"""
    rng = np.random.default_rng(seed)
    longest = min(max_item_tokens, 2048)
    lengths = [1, 2, longest, *rng.integers(1, min(longest, 64) + 1, 21)]
    return [rng.integers(0, vocab_size, length) for length in lengths]


def reference_embeddings(module: EncoderModule, runs: Runs) -> NDArray[np.float32]:
    """Computes embedding tokens of the source in fp32, before rounding to the output dtype. [runs, k, hidden]"""
    rows = []
    with torch.no_grad():
        for run in runs:
            ids = torch.tensor(run)[None]
            hidden = module.model(input_ids=ids).last_hidden_state[0].float().numpy()
            rows.append(_pool(hidden, module))
    return np.stack(rows)


def _pool(hidden: NDArray[np.float32], module: EncoderModule) -> NDArray[np.float32]:
    """Pools by the definition, in numpy, apart from the exported code. [k, hidden]"""
    if module.pooling == "cls":
        pooled = hidden[:1]
    elif module.pooling == "mean":
        pooled = hidden.mean(axis=0, keepdims=True)
    else:
        front = np.repeat(hidden[:1], max(0, module.tokens - len(hidden)), axis=0)
        pooled = np.concatenate([front, hidden[-module.tokens :]])
    if module.normalize:
        pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=-1, keepdims=True), 1e-12)
    result: NDArray[np.float32] = pooled
    return result


def answers_by_mode(backend: TextBackend, runs: Runs) -> Answers:
    """Encodes runs alone, and padded together: the short ones, and the longest beside two of them."""
    alone = np.concatenate([backend.compute(_texts([run])) for run in runs])
    longest = max(range(len(runs)), key=lambda i: len(runs[i]))
    short = [i for i in range(len(runs)) if i != longest]
    batched = np.empty_like(alone)
    batched[short] = backend.compute(_texts([runs[i] for i in short]))
    batched[longest] = backend.compute(_texts([runs[short[0]], runs[longest], runs[short[1]]]))[1]
    return {"one_item": alone, "batch": batched}


def _texts(runs: Runs) -> TokenRuns:
    return TokenRuns.of([TokenRun(run) for run in runs])


def compare_modes(expected: NDArray[np.float32], answers: Answers) -> list[ModeParity]:
    """Compares answers with the source's embedding tokens."""
    return [compare_embeddings(mode, expected, tokens) for mode, tokens in answers.items()]


def output_tolerance(tolerance: Tolerance, dtype: str) -> Tolerance:
    """Allows for float16, whose rounding breaks near ties."""
    if dtype == "float32":
        return tolerance
    return replace(tolerance, min_kendall_tau=min(tolerance.exact_kendall_tau, FLOAT16_KENDALL_TAU))


def compare_embeddings(mode: str, expected: NDArray[np.float32], actual: NDArray[np.floating]) -> ModeParity:
    """Measures errors over all values, and rank agreement of each item's cosine similarities to the others.

    An error of a float16 value is what is beyond half a unit in its last place, by which rounding alone moves it.
    """
    require_finite_results(mode, [*expected], [*actual])
    errors = np.abs(actual.astype(np.float64) - expected)
    if actual.dtype == np.float16:
        errors = np.maximum(errors - np.spacing(np.abs(expected).astype(np.float16)) / 2, 0)
    wanted, got = _similarities(expected), _similarities(actual)
    others = [np.arange(len(expected)) != i for i in range(len(expected))]
    return ModeParity(
        mode=mode,
        items=len(expected),
        max_abs_error=float(errors.max()),
        mean_abs_error=float(errors.mean()),
        relative_error=relative_error(errors, expected.astype(np.float64)),
        kendall_tau=float(np.mean([kendall_tau(wanted[i][o], got[i][o]) for i, o in enumerate(others)])),
        top_k_agreement=float(
            np.mean([top_k_agreement(wanted[i][o], got[i][o], 10) for i, o in enumerate(others)])
        ),
    )


def _similarities(tokens: NDArray[np.floating]) -> NDArray[np.float64]:
    flat = tokens.astype(np.float64).reshape(len(tokens), -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    return flat @ flat.T
