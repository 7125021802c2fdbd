"""Two sets of answers beside each other: errors, and agreement of the rankings that follow from them."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.proof.metrics import kendall_tau, top_k_agreement
from rankport.protos.errors import CheckpointError, ParityError
from rankport.runtime.bundle.manifest import ModeParity

Logits = NDArray[np.float32]  # [items, labels]


RankValues = Callable[[Logits], NDArray[np.float64]]
"""Computes what orders the items of a request. [items]"""


def first_label(logits: Logits) -> NDArray[np.float64]:
    """Orders by the logit of the first label: of what has no score of its own."""
    return logits[:, 0].astype(np.float64)


def compare(
    mode: str,
    expected: Sequence[Logits],
    actual: Sequence[Logits],
    rank_values: RankValues = first_label,
) -> ModeParity:
    """Measures errors over all logits, and rank agreement averaged over the requests with at least two items."""
    require_finite_results(mode, expected, actual)
    source = np.concatenate([e.ravel() for e in expected]).astype(np.float64)
    errors = np.abs(np.concatenate([a.ravel() for a in actual]) - source)
    ranked = [
        with_ties(rank_values(e), rank_values(a)) for e, a in zip(expected, actual, strict=True) if len(e) > 1
    ]
    return ModeParity(
        mode=mode,
        requests=len(expected),
        items=sum(len(logits) for logits in expected),
        max_abs_error=float(errors.max()),
        mean_abs_error=float(errors.mean()),
        relative_error=relative_error(errors, source),
        kendall_tau=_mean([kendall_tau(e, a) for e, a in ranked]),
        top_k_agreement=_mean([top_k_agreement(e, a, min(10, len(e))) for e, a in ranked]),
    )


def worst_of(modes: Sequence[ModeParity]) -> ModeParity:
    """Takes each figure at its worst over modes of one name, as close items differ in them."""
    return modes[0].model_copy(
        update={
            "requests": sum(mode.requests or 0 for mode in modes),
            "items": sum(mode.items for mode in modes),
            "max_abs_error": max(mode.max_abs_error for mode in modes),
            "mean_abs_error": max(mode.mean_abs_error for mode in modes),
            "relative_error": max(mode.relative_error or 0.0 for mode in modes),
            "kendall_tau": min(mode.kendall_tau for mode in modes),
            "top_k_agreement": min(mode.top_k_agreement for mode in modes),
        }
    )


def require_finite_results(
    mode: str, expected: Sequence[NDArray[np.floating]], actual: Sequence[NDArray[np.floating]]
) -> None:
    """Raises CheckpointError if the source answers NaN or infinity, ParityError if only the bundle does."""
    for place, (source, bundle) in enumerate(zip(expected, actual, strict=True)):
        if not np.isfinite(source).all():
            raise CheckpointError(
                f"{mode}: the checkpoint itself answers NaN or infinity on request {place}: its weights are damaged, "
                "or too large for fp32"
            )
        if not np.isfinite(bundle).all():
            raise ParityError(
                f"{mode}: the bundle answers NaN or infinity on request {place}, its source does not: in fp16 values "
                "beyond 65,504 do that, use --precision bf16 then"
            )


def relative_error(errors: NDArray[np.float64], source: NDArray[np.float64]) -> float:
    """Divides |errors| by |source|, Euclidean norms over all values."""
    return float(np.linalg.norm(errors) / max(float(np.linalg.norm(source)), 1e-12))


TIE = 1e-6
"""Source values closer than this have no order: identical items differ by rounding alone."""


def with_ties(
    expected: NDArray[np.float64], actual: NDArray[np.float64], tie: float = TIE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Makes ties of the source exact in both rankings: each value becomes its group's mean. [items] each

    Source values closer than `tie` to the next are of one group.
    """
    order = np.argsort(expected, kind="stable")
    group = np.empty(len(order), np.int64)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(expected[order]) > tie)])
    sizes = np.bincount(group)
    return (np.bincount(group, expected) / sizes)[group], (np.bincount(group, actual) / sizes)[group]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 1.0
