"""Measures a ranker bundle against its source, in every mode in which it will serve.

Owns the modes and what is computed from two sets of logits. The sample of requests comes from `samples`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.options.tolerance import (
    LARGEST_RELATIVE_ERROR,
    LEAST_KENDALL_TAU,
    ROUNDED_KENDALL_TAU,
    ROUNDED_RELATIVE_ERROR,
    Tolerance,
)
from rankport.exporters.proof.metrics import kendall_tau, top_k_agreement
from rankport.protos.errors import CheckpointError, ParityError
from rankport.runtime.backends.contract import PrefixBackend, PrefixBatch, PrefixKV
from rankport.runtime.bundle.manifest import ModeParity, Parity, Precision, Quantization
from rankport.runtime.tokens import TokenRun

Logits = NDArray[np.float32]  # [items, labels]


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One prefix and its items, as tokens; `form` tells text items from embedding-token items."""

    prefix: TokenRun
    items: tuple[TokenRun, ...]
    form: str  # "text" | "embeddings"


def measure(
    backend: PrefixBackend,
    expected: Sequence[Logits],
    requests: Sequence[SampleRequest],
    on_mode: Callable[[str], None] = lambda mode: None,
) -> list[ModeParity]:
    """Differences per mode and item form. `expected` are the source's logits, one array a request."""
    report: list[ModeParity] = []
    for form in dict.fromkeys(request.form for request in requests):
        places = [place for place, request in enumerate(requests) if request.form == form]
        chosen, wanted = [requests[place] for place in places], [expected[place] for place in places]
        for mode, run in MODES.items():
            on_mode(f"{mode}/{form}")
            report.append(compare(f"{mode}/{form}", wanted, run(backend, chosen)))
    return report


def require(parity: Parity) -> None:
    """Raises ParityError listing every mode that misses the tolerance."""
    failed = [
        f"{mode.mode}: max abs error {mode.max_abs_error:.2e}, relative error {mode.relative_error or 0.0:.2e}, "
        f"Kendall tau {mode.kendall_tau:.4f}"
        for mode in parity.modes
        if not parity.holds(mode)
    ]
    if failed:
        raise ParityError(f"the export misses the tolerance ({parity.limits}): " + "; ".join(failed))


def summarize(
    backend: str,
    tolerance: Tolerance,
    modes: Sequence[ModeParity],
    quantization: Quantization | None,
    noise: ModeParity | None = None,
    precision: Precision = "fp32",
) -> Parity:
    """The manifest's record of a measurement.

    Where activations are rounded, the last bit of a sum decides some roundings, and a deep model multiplies them: no
    two implementations agree better than the source agrees with itself under such `noise`. Twice that is allowed
    where it is more than the tolerance, up to LARGEST_RELATIVE_ERROR. Of a bundle in half precision the noise is that
    of the source run in it by transformers.
    """
    rounded = precision != "fp32" or (quantization is not None and quantization.rounds_activations)
    relative, tau = _rounded_limits(tolerance, noise) if rounded else (None, tolerance.exact_kendall_tau)
    return Parity(
        backend=backend,
        precision=_precision_in_words(quantization, precision),
        max_abs_tolerance=None if rounded else tolerance.max_abs_error,
        max_relative_tolerance=relative,
        min_kendall_tau=tau,
        noise=noise,
        modes=list(modes),
    )


def _precision_in_words(quantization: Quantization | None, precision: Precision) -> str:
    if quantization is None:
        return precision
    return quantization.format if precision == "fp32" else f"{quantization.format}, rest {precision}"


def _rounded_limits(tolerance: Tolerance, noise: ModeParity | None) -> tuple[float, float]:
    """Largest relative error and least Kendall tau; what the user set is taken as it is."""
    relative, tau = ROUNDED_RELATIVE_ERROR, ROUNDED_KENDALL_TAU
    if noise is not None and noise.relative_error is not None:
        relative = max(relative, min(2 * noise.relative_error, LARGEST_RELATIVE_ERROR))
        # Items as close as rounding moves them change places, however small the error.
        tau = max(min(tau, noise.kendall_tau - _TAU_MARGIN), LEAST_KENDALL_TAU)
    if tolerance.max_relative_error is not None:
        relative = tolerance.max_relative_error
    return relative, tau if tolerance.min_kendall_tau is None else tolerance.min_kendall_tau


_TAU_MARGIN = 0.02


def compare(mode: str, expected: Sequence[Logits], actual: Sequence[Logits]) -> ModeParity:
    """Errors over all logits; rank agreement averaged over the requests with at least two items."""
    require_finite_results(mode, expected, actual)
    source = np.concatenate([e.ravel() for e in expected]).astype(np.float64)
    errors = np.abs(np.concatenate([a.ravel() for a in actual]) - source)
    ranked = [
        _with_ties(rank_value(e), rank_value(a)) for e, a in zip(expected, actual, strict=True) if len(e) > 1
    ]
    return ModeParity(
        mode=mode,
        items=sum(len(logits) for logits in expected),
        max_abs_error=float(errors.max()),
        mean_abs_error=float(errors.mean()),
        relative_error=relative_error(errors, source),
        kendall_tau=_mean([kendall_tau(e, a) for e, a in ranked]),
        top_k_agreement=_mean([top_k_agreement(e, a, min(10, len(e))) for e, a in ranked]),
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
                f"{mode}: the bundle answers NaN or infinity on request {place}, its source does not"
            )


def relative_error(errors: NDArray[np.float64], source: NDArray[np.float64]) -> float:
    """|errors| / |source|, Euclidean norms over all values."""
    return float(np.linalg.norm(errors) / max(float(np.linalg.norm(source)), 1e-12))


_TIE = 1e-6
"""Source values closer than this have no order: identical items differ by rounding alone."""


def _with_ties(
    expected: NDArray[np.float64], actual: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both rankings with their ties in the source made exact: each takes its group's mean."""
    order = np.argsort(expected, kind="stable")
    group = np.empty(len(order), np.int64)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(expected[order]) > _TIE)])
    sizes = np.bincount(group)
    return (np.bincount(group, expected) / sizes)[group], (np.bincount(group, actual) / sizes)[group]


def rank_value(logits: Logits) -> NDArray[np.float64]:
    """What orders the items: log p of the first label, or the only logit. [items]"""
    exact = logits.astype(np.float64)
    if exact.shape[1] == 1:
        return exact[:, 0]
    peak = exact.max(axis=1)
    result: NDArray[np.float64] = exact[:, 0] - peak - np.log(np.exp(exact - peak[:, None]).sum(axis=1))
    return result


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 1.0


def _full_sequence(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    """No reuse: each prefix + item is one run on the empty prefix."""
    result = []
    for request in requests:
        runs = tuple(_join(request.prefix, item) for item in request.items)
        result.append(backend.score(PrefixBatch.of(((),), runs, np.zeros(len(runs), np.int64))))
    return result


def _prefix_reuse(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    """The prefix once, all items of the request in one pass."""
    return [_score(backend, _prefill(backend, request.prefix, 1), request.items) for request in requests]


def _prefix_extension(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    """The prefix in three pieces, each continuing the one before; the first split once more afterwards."""
    result = []
    for request in requests:
        pieces = _prefill(backend, request.prefix, 3)
        if pieces and pieces[0].length > 1:
            pieces = (*backend.split(pieces[0], 1), *pieces[1:])
        result.append(_score(backend, pieces, request.items))
    return result


def _one_item(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    """Each item in a pass of its own."""
    result = []
    for request in requests:
        pieces = _prefill(backend, request.prefix, 1)
        result.append(np.concatenate([_score(backend, pieces, (item,)) for item in request.items]))
    return result


def _many_prefixes(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    """Several requests in one pass, prefilled together, padded to the longest prefix and item.

    The last request, the longest, shares its pass with a few short items only: beside all of them the padding alone
    would need many times the memory of the model.
    """
    if len(requests) < 3:
        return _one_pass(backend, requests)
    *short, longest = requests
    beside = replace(short[-1], items=short[-1].items[:2])
    return [*_one_pass(backend, short), _one_pass(backend, [beside, longest])[1]]


def _one_pass(backend: PrefixBackend, requests: Sequence[SampleRequest]) -> list[Logits]:
    filled = [i for i, request in enumerate(requests) if len(request.prefix.ids)]
    pieces: list[tuple[PrefixKV, ...]] = [() for _ in requests]
    if filled:
        runs = tuple(requests[i].prefix for i in filled)
        empty: tuple[tuple[PrefixKV, ...], ...] = tuple(() for _ in filled)
        for i, kv in zip(
            filled, backend.prefill(PrefixBatch.of(empty, runs, np.arange(len(filled)))), strict=True
        ):
            pieces[i] = (kv,)
    items = tuple(item for request in requests for item in request.items)
    counts = [len(request.items) for request in requests]
    logits = backend.score(PrefixBatch.of(tuple(pieces), items, np.repeat(np.arange(len(requests)), counts)))
    return np.split(logits, np.cumsum(counts)[:-1])


MODES: dict[str, Callable[[PrefixBackend, Sequence[SampleRequest]], list[Logits]]] = {
    "full_sequence": _full_sequence,
    "prefix_reuse": _prefix_reuse,
    "prefix_extension": _prefix_extension,
    "one_item": _one_item,
    "many_prefixes": _many_prefixes,
}


def _prefill(backend: PrefixBackend, prefix: TokenRun, pieces: int) -> tuple[PrefixKV, ...]:
    done: tuple[PrefixKV, ...] = ()
    for part in np.array_split(prefix.ids, pieces):
        if len(part):
            done += backend.prefill(PrefixBatch.of((done,), (TokenRun(part),), np.zeros(1, np.int64)))
    return done


def _score(backend: PrefixBackend, pieces: tuple[PrefixKV, ...], items: tuple[TokenRun, ...]) -> Logits:
    return backend.score(PrefixBatch.of((pieces,), items, np.zeros(len(items), np.int64)))


def _join(prefix: TokenRun, item: TokenRun) -> TokenRun:
    return TokenRun(np.concatenate([prefix.ids, item.ids]), item.embeddings)
