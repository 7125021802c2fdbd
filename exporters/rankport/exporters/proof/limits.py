"""Limits of how far a bundle may be from its source: those that hold for it, and what misses them.

In fp32 an absolute error, and a relative one of what is small. Where results are rounded a relative one, or twice the
noise of the source itself.
"""

import math
from collections.abc import Iterable, Sequence

from rankport.exporters.options.tolerance import (
    EXACT_NDCG_LOSS,
    FLOAT16_RELATIVE_ERROR,
    LARGEST_RELATIVE_ERROR,
    LEAST_KENDALL_TAU,
    LOW_BIT_NDCG_LOSS,
    ROUNDED_KENDALL_TAU,
    ROUNDED_RELATIVE_ERROR,
    Tolerance,
)
from rankport.exporters.proof.agreement import OwnerAgreement
from rankport.protos.errors import InvalidRequest
from rankport.protos.wording import listed
from rankport.runtime.bundle.manifest import (
    BatchIndependence,
    Manifest,
    ModeParity,
    OrderDependence,
    Parity,
    Precision,
    Quality,
    Quantization,
)


def shortfalls(
    parity: Parity,
    quality: Quality | None,
    tolerance: Tolerance,
    manifest: Manifest,
    agreement: OwnerAgreement | None = None,
    contradictions: Sequence[str] = (),
) -> list[str]:
    """Says what a bundle misses: what it states, parity, quality, agreement with the owner; empty if it holds."""
    missed = [*contradictions, *_parity_shortfalls(parity), *_batch_shortfalls(parity)]
    if quality is not None:
        missed += _quality_shortfalls(quality, tolerance, manifest)
    if agreement is not None and agreement.miss:
        missed.append(agreement.miss)
    return missed


def _parity_shortfalls(parity: Parity) -> list[str]:
    """Lists every mode that misses the tolerance, in one message."""
    failed = [
        f"{mode.mode}: max abs error {mode.max_abs_error:.2e}, relative error {mode.relative_error or 0.0:.2e}, "
        f"Kendall tau {mode.kendall_tau:.4f}"
        for mode in parity.modes
        if not parity.holds(mode)
    ]
    if not failed:
        return []
    limits = {
        "--max-abs-error": parity.max_abs_tolerance,
        "--max-relative-error": parity.max_relative_tolerance,
    }
    flags = [name for name, limit in limits.items() if limit is not None]
    way_out = f" ({listed([*flags, '--min-kendall-tau'])} allow more)"
    return [f"the export misses the tolerance ({parity.limits}): " + "; ".join(failed) + way_out]


def _batch_shortfalls(parity: Parity) -> list[str]:
    """Says how many rankings depend on the batch. Where results are rounded that is measured, and no shortfall."""
    batches = parity.batches
    if batches is None or not batches.changed or parity.max_abs_tolerance is None:
        return []
    return [batches.in_words]


def _quality_shortfalls(quality: Quality, tolerance: Tolerance, manifest: Manifest) -> list[str]:
    """Compares the NDCG of bundle and source, and says the first that is too far apart.

    A bundle of equal maths must not differ in either direction; one that rounds may by more, and one quantized at
    export must not lose.
    """
    lossy = _loses_bits(manifest)
    allowed = allowed_ndcg_loss(tolerance, manifest)
    for k in (1, 10):
        source, bundle = getattr(quality, f"ndcg_at_{k}_source"), getattr(quality, f"ndcg_at_{k}_bundle")
        loss = source - bundle if lossy else abs(source - bundle)
        if not loss <= allowed:
            return [
                f"NDCG@{k} is {bundle:.4f} for the bundle and {source:.4f} for its source: "
                f"more than --max-ndcg-loss {allowed} apart"
            ]
    return []


def allowed_ndcg_loss(tolerance: Tolerance, manifest: Manifest) -> float:
    """Gives what NDCG may differ by from the source, or, of a bundle quantized at export, lose."""
    if tolerance.max_ndcg_loss is not None:
        return tolerance.max_ndcg_loss
    rounded = rounds_results(manifest.precision, manifest.quantization)
    return LOW_BIT_NDCG_LOSS if _loses_bits(manifest) or rounded else EXACT_NDCG_LOSS


def _loses_bits(manifest: Manifest) -> bool:
    return manifest.quantization is not None and manifest.quantization.by == "export"


def rounds_results(precision: Precision, quantization: Quantization | None) -> bool:
    """Says whether graphs round on their way: states in half precision, or inputs of products in low bits."""
    return precision != "fp32" or (quantization is not None and quantization.rounds_activations)


def require_use(tolerance: Tolerance, rounded: Iterable[bool]) -> None:
    """Raises InvalidRequest for an absolute limit where the graphs of every target round."""
    if tolerance.max_abs_error is not None and all(rounded):
        raise InvalidRequest(
            f"--max-abs-error is {tolerance.max_abs_error}: of results in half precision, or of inputs rounded to low "
            "bits, it is no limit: say --max-relative-error"
        )


def summarize(
    backend: str,
    tolerance: Tolerance,
    modes: Sequence[ModeParity],
    quantization: Quantization | None,
    noise: ModeParity | None = None,
    precision: Precision = "fp32",
    reference: str | None = None,
    batches: BatchIndependence | None = None,
    order: OrderDependence | None = None,
) -> Parity:
    """Makes the manifest's record of a measurement.

    Where activations are rounded, the last bit of a sum decides some roundings, and a deep model multiplies them: no
    two implementations agree better than the source agrees with itself under such `noise`. Twice that is allowed
    where it is more than the tolerance, up to LARGEST_RELATIVE_ERROR. Of a bundle in half precision the noise is that
    of the source run in it by transformers.
    """
    rounded = rounds_results(precision, quantization)
    low_bit = rounds_results("fp32", quantization)
    least = FLOAT16_RELATIVE_ERROR if precision == "fp16" and not low_bit else ROUNDED_RELATIVE_ERROR
    relative, tau = (
        _rounded_limits(tolerance, noise, least)
        if rounded
        else (tolerance.exact_relative_error, tolerance.exact_kendall_tau)
    )
    return Parity(
        backend=backend,
        precision=_precision_in_words(quantization, precision),
        max_abs_tolerance=None if rounded else tolerance.exact_abs_error,
        max_relative_tolerance=relative,
        min_kendall_tau=tau,
        noise=noise,
        modes=list(modes),
        reference=reference,
        batches=batches,
        order=order,
    )


def _precision_in_words(quantization: Quantization | None, precision: Precision) -> str:
    if quantization is None:
        return precision
    return quantization.format if precision == "fp32" else f"{quantization.format}, rest {precision}"


def _rounded_limits(tolerance: Tolerance, noise: ModeParity | None, relative: float) -> tuple[float, float]:
    """Gives the largest relative error, at least `relative`, and least Kendall tau; what the user set stands."""
    tau = ROUNDED_KENDALL_TAU
    if noise is not None and noise.relative_error is not None:
        relative = max(relative, min(2 * noise.relative_error, LARGEST_RELATIVE_ERROR))
        # Items as close as rounding moves them change places, however small the error.
        tau = max(min(tau, noise.kendall_tau - _tau_margin(noise)), LEAST_KENDALL_TAU)
    if tolerance.max_relative_error is not None:
        relative = tolerance.max_relative_error
    return relative, tau if tolerance.min_kendall_tau is None else tolerance.min_kendall_tau


def _tau_margin(noise: ModeParity) -> float:
    """Gives what chance alone moves Kendall's tau by, between two roundings of the source.

    Each swaps a pair of items with the same probability: three standard errors of the difference of two shares of
    swapped pairs, which few items a request make wide. One swap more than was seen counts, as none says little. Where
    no requests are told, as of an encoder, each item is ranked against all, and pairs are many.
    """
    if noise.requests is None:
        return _TAU_MARGIN
    pairs = max(noise.items * (noise.items / noise.requests - 1) / 2, 1.0)
    swapped = min(((1 - noise.kendall_tau) / 2 * pairs + 1) / pairs, 0.5)
    return _TAU_MARGIN + 3 * 2 * math.sqrt(2 * swapped * (1 - swapped) / pairs)


_TAU_MARGIN = 0.02
