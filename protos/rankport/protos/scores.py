"""Scores of a ranker: formulas that take label logits to one number an item.

Which of them a bundle asks for, its manifest says; of a result they are found again by what they give.
"""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankport.protos.types import ScoreResult

Transform = Literal["softmax", "sigmoid", "log-odds", "none", "with-end"]
_OF_PROBABILITIES: tuple[Transform, ...] = ("softmax", "sigmoid")
# By which scores differ that another processor made of the same logits, a server's say.
_ROUNDING, _LEAST = 1e-5, 1e-30
FloatT = TypeVar("FloatT", np.float32, np.float64)


def label_scores(logits: NDArray[np.float32], positive: int, transform: Transform) -> NDArray[np.float32]:
    """Computes scores of label logits [items, labels] for the label `positive`; NaN rows give NaN. [items]

    Log-odds are log(p / (1 - p)) of the softmax's p: the positive logit less that of all others together.
    """
    match transform:
        case "softmax":
            return label_probabilities(logits, exclusive=True)[:, positive]
        case "sigmoid":
            return label_probabilities(logits[:, [positive]], exclusive=False)[:, 0]
        case "log-odds":
            others = np.delete(logits, positive, axis=1)
            return logits[:, positive] - _log_sum_exp(others)
        case "none" | "with-end":
            return logits[:, positive].copy()


def label_probabilities(logits: NDArray[np.float32], *, exclusive: bool) -> NDArray[np.float32]:
    """Computes the probability of every label: softmax of those that exclude each other, else sigmoid. [texts, labels]

    NaN rows give NaN.
    """
    if not exclusive:
        decay = np.exp(-np.abs(logits))  # never overflows
        alone: NDArray[np.float32] = np.where(logits < 0, decay, np.float32(1)) / (1 + decay)
        return alone
    shares: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def rank_values(logits: NDArray[np.float32], positive: int, transform: Transform) -> NDArray[np.float64]:
    """Computes what orders the items as their scores do, without rounding two of them to one. [items]

    They are log-odds where labels compete, else the positive label's logit.
    """
    exact = logits.astype(np.float64)
    values: NDArray[np.float64] = exact[:, positive]
    if transform in ("softmax", "log-odds"):
        return values - _log_sum_exp(np.delete(exact, positive, axis=1))
    return values


def unrounded(result: ScoreResult) -> NDArray[np.float64] | None:
    """Computes `rank_values` of probabilities, of which float32 rounds those near 1 to 1. [items]

    None of other scores, and where not one label alone can have given these.
    """
    transform = next((name for name in _OF_PROBABILITIES if result.read_out.startswith(f"{name} ")), None)
    exclusive = transform == "softmax"
    if result.score_kind != "probability" or transform is None or result.logits.shape[1] <= exclusive:
        return None
    made, given = label_probabilities(result.logits, exclusive=exclusive), result.scores[:, None]
    labels = np.flatnonzero(((made == given) | (np.isnan(made) & np.isnan(given))).all(axis=0))
    if not len(labels):
        labels = np.flatnonzero(np.isclose(made, given, _ROUNDING, _LEAST, equal_nan=True).all(axis=0))
    return rank_values(result.logits, int(labels[0]), transform) if len(labels) == 1 else None


def _log_sum_exp(logits: NDArray[FloatT]) -> NDArray[FloatT]:
    peak = logits.max(axis=1)
    total: NDArray[FloatT] = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
    return total
