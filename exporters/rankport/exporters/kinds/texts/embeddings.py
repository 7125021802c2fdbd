"""Embeddings of texts beside those of the source: differences of values, and of what is nearest to each."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.options.tolerance import FLOAT16_KENDALL_TAU, Tolerance
from rankport.exporters.proof.compare import relative_error, require_finite_results
from rankport.exporters.proof.metrics import kendall_tau, top_k_agreement
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import ModeParity


def scaled_tolerance(tolerance: Tolerance, expected: NDArray[np.float32]) -> Tolerance:
    """Makes the largest error, where none was asked for, one of the source's values: fp32 rounds by a share of them.

    States without a norm behind them, as MobileBERT's, are beyond 10⁵.
    """
    if tolerance.max_abs_error is not None:
        return tolerance
    scale = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64))))
    return replace(tolerance, max_abs_error=tolerance.exact_abs_error * scale) if scale > 1 else tolerance


def output_tolerance(tolerance: Tolerance, dtype: str) -> Tolerance:
    """Allows for float16, whose rounding breaks near ties."""
    if dtype == "float32":
        return tolerance
    return replace(tolerance, min_kendall_tau=min(tolerance.exact_kendall_tau, FLOAT16_KENDALL_TAU))


def compare_embeddings(mode: str, expected: NDArray[np.float32], actual: NDArray[np.floating]) -> ModeParity:
    """Measures errors over all values, and rank agreement of each item's cosine similarities to the others.

    An error of a float16 value is what is beyond half a unit in its last place, by which rounding alone moves it.
    """
    _require_within_float16(expected, actual.dtype)
    require_finite_results(mode, [*expected], [*actual])
    errors = np.abs(actual.astype(np.float64) - expected)
    if actual.dtype == np.float16:
        errors = np.maximum(errors - np.spacing(np.abs(expected).astype(np.float16)) / 2, 0)
    wanted, got = similarities(expected), similarities(actual)
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


def _require_within_float16(expected: NDArray[np.float32], dtype: np.dtype[np.floating]) -> None:
    most, largest = float(np.finfo(np.float16).max), float(np.abs(expected).max())
    if dtype == np.float16 and np.isfinite(largest) and largest > most:
        raise CheckpointError(
            f"embedding values reach {largest:,.0f}, and float16 ends at {most:,.0f}: export with --output-dtype "
            "float32, or with --normalize"
        )


def similarities(tokens: NDArray[np.floating]) -> NDArray[np.float64]:
    """Computes the cosine of each run to each, over all its tokens. [runs, runs]"""
    flat = tokens.astype(np.float64).reshape(len(tokens), -1)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    return flat @ flat.T
