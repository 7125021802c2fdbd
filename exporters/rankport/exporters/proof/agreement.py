"""Agreement of a bundle with what its owner's own pipeline gives for the same texts.

Owns the transforms, the measures and the words of a miss. How the bundle answers the texts, its kind knows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.options.reference_file import Reference, ReferenceTransform, Score
from rankport.exporters.options.tolerance import EXACT_AGREEMENT, ROUNDED_AGREEMENT, Tolerance
from rankport.exporters.proof.compare import with_ties
from rankport.exporters.proof.evidence import Series
from rankport.exporters.proof.metrics import kendall_tau
from rankport.protos.errors import InvalidRequest
from rankport.protos.wording import counted
from rankport.runtime.bundle.manifest import Agreement, ManifestDraft

Values = NDArray[np.float64]  # [items]


@dataclass(frozen=True, slots=True)
class OwnerAgreement:
    """Figures for the manifest, and what helps where they miss."""

    figures: Agreement
    worst: str  # where it is, the owner's value and ours
    hint: str  # what would mend a miss; empty where there is none
    values: Series | None = None  # the owner's, transformed, and ours; None where only the order counts

    @property
    def miss(self) -> str:
        """Says what is beyond its limit, and what to do; empty if the bundle agrees."""
        if not self.figures.misses:
            return ""
        said = (
            f"the bundle does not give what --reference says: {', '.join(self.figures.misses)} ({self.worst})"
        )
        return f"{said}: {self.hint}"


@dataclass(frozen=True, slots=True)
class AgreementLimits:
    """Limits of an agreement, those that the user set first."""

    max_error: float
    min_tau: float
    min_cosine: float

    @classmethod
    def of(cls, tolerance: Tolerance, manifest: ManifestDraft) -> "AgreementLimits":
        """Chooses by what the bundle rounds."""
        exact = manifest.precision == "fp32" and manifest.quantization is None
        error, tau, cosine = EXACT_AGREEMENT if exact else ROUNDED_AGREEMENT
        return cls(
            _given(tolerance.max_reference_error, error),
            _given(tolerance.min_reference_tau, tau),
            _given(tolerance.min_reference_cosine, cosine),
        )


def agreement_of_scores(
    reference: Reference, ours: Sequence[Values], truncated: int, limits: AgreementLimits, positive: int
) -> OwnerAgreement:
    """Compares a ranker's scores, one array a request, with the owner's. `positive` is the label that counts.

    Raises InvalidRequest for an owner's score that the transform cannot take; the message names its line.
    """
    raw = [_numbers(request.scores, positive, request.place) for request in reference.requests]
    transform = "none" if reference.transform == "softmax" else reference.transform
    owner = raw if transform == "rank" else [TRANSFORMED[transform](values) for values in raw]
    _require_finite(reference, owner)
    figures = _figures(reference, transform, raw, ours, truncated, limits)
    if transform == "rank":
        return OwnerAgreement(figures, f"order over {counted(len(raw), 'request')}", _ORDER, None)
    worst = _worst(reference, owner, ours)
    hint = _hint(figures, reference, raw, ours, limits)
    return OwnerAgreement(figures, worst, hint, Series.of("yours", owner, ours))


def _worst(reference: Reference, owner: Sequence[Values], ours: Sequence[Values]) -> str:
    """Says where the largest error is."""
    errors = [np.abs(first - second) for first, second in zip(owner, ours, strict=True)]
    place = int(np.argmax([part.max() for part in errors]))
    item = int(np.argmax(errors[place]))
    line, pair = reference.requests[place].places[item], (owner[place][item], ours[place][item])
    return f"worst: {line}, item {item} of its prefix: yours {pair[0]:.6g}, the bundle's {pair[1]:.6g}"


def agreement_of_embeddings(
    reference: Reference, ours: Sequence[NDArray[np.floating]], truncated: int, limits: AgreementLimits
) -> OwnerAgreement:
    """Compares an item encoder's tokens, [k, hidden] a text, with the owner's by their cosines.

    Raises InvalidRequest for owner's embeddings of another shape.
    """
    first = reference.embeddings[0]
    if first.embedding.shape != ours[0].shape:
        raise InvalidRequest(
            f"{first.place}: the embedding is {list(first.embedding.shape)}, the bundle makes {list(ours[0].shape)}"
        )
    cosines = np.array(
        [_cosine(row.embedding, tokens) for row, tokens in zip(reference.embeddings, ours, strict=True)]
    )
    worst = int(np.argmin(cosines))
    figures = Agreement(
        sha256=reference.sha256,
        compared="embeddings",
        transform=reference.transform,
        requests=len(ours),
        items=len(ours),
        truncated=truncated,
        least_cosine=float(cosines[worst]),
        min_cosine=limits.min_cosine,
    )
    where = f"worst: {reference.embeddings[worst].place}, cosine {cosines[worst]:.6g}"
    owner = [row.embedding for row in reference.embeddings]
    return OwnerAgreement(figures, where, _TEXTS, Series.of("yours", owner, list(ours)))


def agreement_of_similarities(
    reference: Reference, ours: Values, truncated: int, limits: AgreementLimits
) -> OwnerAgreement:
    """Compares cosines of pairs of texts with the owner's."""
    owner = np.array([pair.score for pair in reference.pairs])
    figures = _figures(reference, reference.transform, [owner], [ours], truncated, limits)
    worst = int(np.argmax(np.abs(owner - ours)))
    where = f"worst: {reference.pairs[worst].place}: yours {owner[worst]:.6g}, the bundle's {ours[worst]:.6g}"
    return OwnerAgreement(figures, where, _TEXTS, Series.of("yours", [owner], [ours]))


def _figures(
    reference: Reference,
    transform: ReferenceTransform,
    raw: Sequence[Values],
    ours: Sequence[Values],
    truncated: int,
    limits: AgreementLimits,
) -> Agreement:
    owner = list(raw) if transform == "rank" else [TRANSFORMED[transform](values) for values in raw]
    first, second = np.concatenate(owner), np.concatenate(list(ours))
    errors = np.abs(first - second)
    by_order = transform == "rank"
    return Agreement(
        sha256=reference.sha256,
        compared="similarities" if reference.pairs else "scores",
        transform=reference.transform,
        requests=len(raw),
        items=len(first),
        truncated=truncated,
        max_abs_error=None if by_order else float(errors.max()),
        mean_abs_error=None if by_order else float(errors.mean()),
        pearson=_pearson(first, second),
        kendall_tau=_mean_tau(owner, ours),
        max_abs_tolerance=None if by_order else limits.max_error,
        min_kendall_tau=limits.min_tau,
    )


def _same(values: Values) -> Values:
    return values


def _sigmoid(values: Values) -> Values:
    return np.exp(-np.logaddexp(0, -values))


def _logit(values: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(values) - np.log1p(-values)


def _exp(values: Values) -> Values:
    with np.errstate(over="ignore"):
        return np.exp(values)


TRANSFORMED: Mapping[str, Callable[[Values], Values]] = MappingProxyType(
    {"none": _same, "sigmoid": _sigmoid, "logit": _logit, "exp": _exp}
)
"""Owner's score to ours, by the transform's name; "softmax" and "rank" are no functions of one number."""

_ORDER = (
    "the same texts are ordered otherwise: check prompt, labels and tokenizer (`rankport inspect` shows them)"
)
_TEXTS = "the same texts become other tokens, or are pooled otherwise: check prompt, limits and pooling"


def _hint(
    figures: Agreement,
    reference: Reference,
    raw: Sequence[Values],
    ours: Sequence[Values],
    limits: AgreementLimits,
) -> str:
    """Says what most likely went wrong: another transform that fits, the other label, another prompt."""
    for name in ("none", "sigmoid", "logit", "exp"):
        other = _figures_if_finite(reference, name, raw, ours, limits)
        if other is not None and name != reference.transform and not other.misses:
            return f"--reference-transform {name} fits, with a max abs error of {other.max_abs_error:.3g}"
    tau = figures.kendall_tau or 0.0
    if tau < -limits.min_tau:
        return "the order is reversed: is another label the positive one?"
    if tau >= limits.min_tau:
        return (
            "the order agrees, the values do not: say by --reference-transform how your score becomes the bundle's, or "
            "that it is to rank only"
        )
    return _ORDER


def _figures_if_finite(
    reference: Reference, name: str, raw: Sequence[Values], ours: Sequence[Values], limits: AgreementLimits
) -> Agreement | None:
    transform: ReferenceTransform = name  # type: ignore[assignment]
    if not all(np.isfinite(TRANSFORMED[name](values)).all() for values in raw):
        return None
    return _figures(reference, transform, raw, ours, 0, limits)


def _numbers(scores: Sequence[Score], positive: int, place: str) -> Values:
    """Makes one number of each score: the softmax probability of the positive label where they are label logits."""
    logits = np.array(scores, np.float64)
    if logits.ndim == 1:
        return logits
    if positive >= logits.shape[1]:
        raise InvalidRequest(
            f"{place}: {logits.shape[1]} label logits a score, the bundle's label {positive} counts"
        )
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Values = weights[:, positive] / weights.sum(axis=1)
    return probabilities


def _require_finite(reference: Reference, owner: Sequence[Values]) -> None:
    for request, values in zip(reference.requests, owner, strict=True):
        if not np.isfinite(values).all():
            place = request.places[int(np.argmin(np.isfinite(values)))]
            raise InvalidRequest(
                f"{place}: --reference-transform {reference.transform} makes no finite number of the score"
            )


def _mean_tau(owner: Sequence[Values], ours: Sequence[Values]) -> float:
    """Averages Kendall's tau over the requests of two items and more; the owner's ties are ties."""
    taus = [
        kendall_tau(*with_ties(first, second, _TIE * float(np.abs(first).max())))
        for first, second in zip(owner, ours, strict=True)
        if len(first) > 1
    ]
    return float(np.mean(taus)) if taus else 1.0


_TIE = 1e-5
"""Share of a request's largest score below which two scores have no order."""


def _pearson(first: Values, second: Values) -> float | None:
    if len(first) < 2 or not first.std() or not second.std():
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _cosine(owner: NDArray[np.float64], tokens: NDArray[np.floating]) -> float:
    """Gives the least cosine over the tokens of one text."""
    ours = tokens.astype(np.float64)
    norms = np.linalg.norm(owner, axis=1) * np.linalg.norm(ours, axis=1)
    return float(((owner * ours).sum(axis=1) / np.maximum(norms, 1e-12)).min())


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
