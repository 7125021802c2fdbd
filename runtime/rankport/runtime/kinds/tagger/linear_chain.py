"""Linear-chain CRF in numpy: best labels (Viterbi) and their probabilities, over all texts of a request at once.

A path y of a text has the score start[y1] + sum of logits[t, yt] + sum of transitions[yt-1, yt] + end[yn] (Lafferty et
al. 2001); its probability is its exponential over the sum of those of all paths.
"""

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.kinds.tagger.by_step import ByStep
from rankport.runtime.kinds.tagger.tables import CrfTables

Logits = NDArray[np.float64]  # [units, labels]
_LEAST = 1e-300  # of a divisor: weights of all labels that underflowed
_EXACT = 1e-200  # least sum of products that none of its parts was lost of


def best_labels(tables: CrfTables, logits: Logits, steps: ByStep) -> NDArray[np.int64]:
    """Finds the labels of the best path of each text. [units]; of equal ones the first label wins.

    On the way there only the best scores are kept; which label they came from is looked up on the way back.
    """
    scores = tables.start + logits[steps.units(0)]
    reached = [scores]
    for step in range(1, steps.longest):
        units = steps.units(step)
        came = (scores[: len(units), :, None] + tables.transitions).max(axis=1)
        scores = came + logits[units]
        reached.append(scores)
    return _walked_back(tables, steps, reached, len(logits))


def _walked_back(tables: CrfTables, steps: ByStep, reached: list[Logits], units: int) -> NDArray[np.int64]:
    labels, ahead = np.zeros(units, np.int64), np.empty(0, np.int64)
    for step in reversed(range(steps.longest)):
        going_on = steps.ending(step).start
        towards = np.concatenate(
            [tables.transitions.T[ahead], np.tile(tables.end, (steps.active[step] - going_on, 1))]
        )
        ahead = (reached[step] + towards).argmax(axis=1)
        labels[steps.units(step)] = ahead
    return labels


def label_probabilities(
    tables: CrfTables, logits: Logits, steps: ByStep, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Computes the probability of each unit's label, whatever the others are (forward-backward). [units]"""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    moves = np.exp(tables.transitions - tables.transitions.max())
    forward = _forward(np.exp(tables.start - tables.start.max()), moves, weights, steps)
    backward = _backward(np.exp(tables.end - tables.end.max()), moves, weights, steps)
    both = forward * backward
    totals = both.sum(axis=1)
    if totals.min(initial=1.0) < _EXACT:
        return _probabilities_by_logs(tables, logits, steps, labels)
    probabilities: NDArray[np.float64] = both[np.arange(len(labels)), labels] / totals
    return probabilities


def _probabilities_by_logs(
    tables: CrfTables, logits: Logits, steps: ByStep, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Computes them where every path of a text has a part that cannot be, whose weight is none. Slow."""
    forward, backward = np.empty_like(logits), np.empty_like(logits)
    reached = tables.start + logits[steps.units(0)]
    forward[steps.units(0)] = reached
    for step in range(1, steps.longest):
        units = steps.units(step)
        reached = _log_sum(reached[: len(units), :, None] + tables.transitions, axis=1) + logits[units]
        forward[units] = reached
    ahead = np.tile(tables.end, (len(steps.lengths), 1))
    for step in reversed(range(steps.longest)):
        units, going_on = steps.units(step), steps.ending(step).start
        if going_on:
            behind = ahead[:going_on] + logits[units[:going_on] + 1]
            ahead[:going_on] = _log_sum(behind[:, None] + tables.transitions, axis=2)
        backward[units] = ahead[: len(units)]
    both = forward + backward
    probabilities: NDArray[np.float64] = np.exp(both[np.arange(len(labels)), labels] - _log_sum(both, axis=1))
    return probabilities


def _log_sum(values: Logits, axis: int) -> Logits:
    sums: Logits = np.logaddexp.reduce(values, axis=axis)
    return sums


def _forward(start: Logits, moves: Logits, weights: Logits, steps: ByStep) -> Logits:
    """Sums over the paths up to each unit, scaled a unit. [units, labels]"""
    sums = np.zeros_like(weights)
    reached = _scaled(start * weights[steps.units(0)])
    sums[steps.units(0)] = reached
    for step in range(1, steps.longest):
        units = steps.units(step)
        reached = _scaled((reached[: len(units)] @ moves) * weights[units])
        sums[units] = reached
    return sums


def _backward(end: Logits, moves: Logits, weights: Logits, steps: ByStep) -> Logits:
    """Sums over the paths behind each unit, scaled a unit. [units, labels]"""
    sums = np.zeros_like(weights)
    ahead = np.tile(end, (len(steps.lengths), 1))
    for step in reversed(range(steps.longest)):
        units, ending = steps.units(step), steps.ending(step)
        going_on = ending.start
        if going_on:
            ahead[:going_on] = _scaled((ahead[:going_on] * weights[units[:going_on] + 1]) @ moves.T)
        sums[units] = ahead[: len(units)]
    return sums


def _scaled(rows: Logits) -> Logits:
    scaled: Logits = rows / np.maximum(rows.sum(axis=1, keepdims=True), _LEAST)
    return scaled
