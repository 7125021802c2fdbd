"""Scores of a ranker: formulas that take label logits to one number an item.

Which of them a bundle asks for, its manifest says, and `bundle.description` in words.
"""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Transform = Literal["softmax", "sigmoid", "log-odds", "none", "with-end"]
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


def _log_sum_exp(logits: NDArray[FloatT]) -> NDArray[FloatT]:
    peak = logits.max(axis=1)
    total: NDArray[FloatT] = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
    return total
