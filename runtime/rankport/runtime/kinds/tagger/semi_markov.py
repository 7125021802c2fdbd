"""Semi-Markov CRF in numpy: the best cut of each text into segments, and their probabilities, all texts at once.

A cut of a text into segments, each with a label, has the score start[y1] + sum of transitions[yk-1, yk] + end[yn] + sum
of its segments' own: the logits of its units' tags (first, inner, last, single, as the scheme spells them) +
lengths[y, units] (Sarawagi and Cohen 2004). Units outside are segments of one unit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.kinds.tagger.by_step import ByStep
from rankport.runtime.kinds.tagger.labels import OUTSIDE, PARTS, LabelScheme, Part
from rankport.runtime.kinds.tagger.spans import UnitSpans
from rankport.runtime.kinds.tagger.tables import CrfTables

Scores = NDArray[np.float64]
_NONE = -np.inf


@dataclass(frozen=True, slots=True)
class SegmentScores:
    """Parts that a segment's own score is made of."""

    single: Scores  # [units, labels]
    first: Scores  # [units, labels]
    last: Scores  # [units, labels]
    inner_before: Scores  # [units + 1, labels] sum of the inner logits of all units before
    lengths: Scores  # [max_segment, labels] of a segment of one unit, of two, ...

    @classmethod
    def of(cls, logits: Scores, scheme: LabelScheme, tables: CrfTables) -> "SegmentScores":
        """Takes the logits [units, labels of the model] apart by the parts of a span."""
        parts = {part: _columns(logits, scheme, tables.labels, part) for part in PARTS}
        inner = parts["inner"]
        # Where a type has no inner label, no segment of it is that long: see `_longest`.
        sums = np.concatenate(
            [np.zeros((1, inner.shape[1])), np.cumsum(np.where(inner > _NONE, inner, 0), 0)]
        )
        assert tables.lengths is not None
        lengths = tables.lengths.T.copy()
        for column, label in enumerate(tables.labels):
            lengths[_longest(scheme, label) :, column] = _NONE
        return cls(parts["single"], parts["first"], parts["last"], sums, lengths)

    def ending(self, units: NDArray[np.int64], length: int) -> Scores:
        """Scores the segments of `length` units whose last ones are `units`. [units, labels]"""
        scores: Scores = self.single[units]
        if length > 1:
            begin = units - (length - 1)
            between = self.inner_before[units] - self.inner_before[begin + 1]
            scores = self.first[begin] + between + self.last[units]
        scores += self.lengths[length - 1]
        return scores


def best_segments(tables: CrfTables, segments: SegmentScores, steps: ByStep) -> UnitSpans:
    """Finds the spans of each text's best cut, with their probabilities, in the order of the units."""
    forward = _Forward.of(tables, segments, steps)
    inside = [label != OUTSIDE for label in tables.labels]
    cuts = sorted(
        cut for text in range(len(steps.lengths)) for cut in forward.walk_back(text) if inside[cut[2]]
    )
    first, last, labels = np.array(cuts, np.int64).reshape(-1, 3).T
    probabilities = _probabilities(tables, segments, steps, first, last, labels)
    # The labels that are types stand in the order of the scheme's.
    return UnitSpans(first, last, (np.cumsum(inside) - 1)[labels], probabilities)


@dataclass(frozen=True, slots=True)
class _Forward:
    """Best scores up to every place of every text, and the choices that led there."""

    steps: ByStep
    lengths: list[NDArray[np.int64]]  # a step: of the best last segment. [active texts, labels]
    before: list[NDArray[np.int64]]  # a step: label before a segment that begins here. [active texts, labels]
    ends: NDArray[np.int64]  # [texts] last label

    @classmethod
    def of(cls, tables: CrfTables, segments: SegmentScores, steps: ByStep) -> "_Forward":
        towards = np.ascontiguousarray(tables.transitions.T)
        texts, labels = len(steps.lengths), len(tables.labels)
        entered = [np.tile(tables.start, (texts, 1))]  # best score up to a segment that begins at each step
        scores = np.empty((texts, labels))
        lengths, before = [], [np.zeros((texts, labels), np.int64)]
        for step in range(steps.longest):
            units = steps.units(step)
            reached = _candidates(segments, entered, step, units)
            best = reached.argmax(axis=0)
            lengths.append(best + 1)
            scores[: len(units)] = np.take_along_axis(reached, best[None], 0)[0]
            came = scores[: len(units), None, :] + towards  # [texts, to, from]
            before.append(came.argmax(axis=2))
            entered.append(came.max(axis=2))
        return cls(steps, lengths, before, (scores + tables.end).argmax(axis=1))

    def walk_back(self, text: int) -> list[tuple[int, int, int]]:
        """Lists the segments of a text from its last on: first unit, behind the last, label."""
        begin, end, label = int(self.steps.begins[text]), int(self.steps.lengths[text]), int(self.ends[text])
        cuts = []
        while end:
            length = int(self.lengths[end - 1][text, label])
            cuts.append((begin + end - length, begin + end, label))
            end -= length
            label = int(self.before[end][text, label])
        return cuts


def _candidates(
    segments: SegmentScores, entered: list[Scores], step: int, units: NDArray[np.int64]
) -> Scores:
    """Scores the ways to end a segment at a step, by its length. [lengths, texts, labels]"""
    most = min(len(segments.lengths), step + 1)
    return np.stack(
        [
            segments.ending(units, length) + entered[step + 1 - length][: len(units)]
            for length in range(1, most + 1)
        ]
    )


def _probabilities(
    tables: CrfTables,
    segments: SegmentScores,
    steps: ByStep,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> Scores:
    """Computes the probability of each segment given, whatever the rest of its text is (forward-backward)."""
    if not len(first):
        return np.empty(0)
    entered, totals = _sums_before(tables, segments, steps)
    behind = _sums_behind(tables, segments, steps)
    text = np.empty(len(segments.single), np.int64)
    for step in range(steps.longest):
        text[steps.units(step)] = np.arange(steps.active[step])
    own = np.array(
        [
            segments.ending(np.array([end - 1]), end - begin)[0, label]
            for begin, end, label in zip(first.tolist(), last.tolist(), labels.tolist(), strict=True)
        ]
    )
    logs = entered[first, labels] + own + behind[last - 1, labels] - totals[text[first]]
    probabilities: Scores = np.exp(np.minimum(logs, 0.0))
    return probabilities


def _sums_before(tables: CrfTables, segments: SegmentScores, steps: ByStep) -> tuple[Scores, Scores]:
    """Sums, as logs, over all cuts before a segment that begins at each unit; and over all cuts of each text."""
    texts = len(steps.lengths)
    sums = np.empty_like(segments.single)
    entered, totals = [np.tile(tables.start, (texts, 1))], np.empty(texts)
    for step in range(steps.longest):
        units, ending = steps.units(step), steps.ending(step)
        sums[units] = entered[step][: len(units)]
        reached = _log_sum(_candidates(segments, entered, step, units), axis=0)
        totals[ending] = _log_sum(reached[ending] + tables.end, axis=1)
        entered.append(_log_sum(reached[:, :, None] + tables.transitions, axis=1))
    return sums, totals


def _sums_behind(tables: CrfTables, segments: SegmentScores, steps: ByStep) -> Scores:
    """Sums, as logs, over all cuts behind a segment that ends with each unit. [units, labels]"""
    sums = np.empty_like(segments.single)
    beginning: dict[int, Scores] = {}  # a step: over the cuts from it on, by the label of its segment
    for step in reversed(range(steps.longest)):
        units, over = steps.units(step), steps.ending(step)
        behind = np.tile(tables.end, (len(units), 1))
        if over.start:
            ahead = beginning[step + 1][: over.start]
            behind[: over.start] = _log_sum(ahead[:, None, :] + tables.transitions, axis=2)
        sums[units] = behind
        beginning[step] = _beginning(segments, sums, steps, step)
    return sums


def _beginning(segments: SegmentScores, sums: Scores, steps: ByStep, step: int) -> Scores:
    """Sums, as logs, over the segments that begin at a step and what is behind them. [active texts, labels]"""
    begins = steps.units(step)
    ways = np.full((len(segments.lengths), *sums[begins].shape), _NONE)
    for length in range(1, min(len(segments.lengths), steps.longest - step) + 1):
        ends = steps.units(step + length - 1)
        ways[length - 1, : len(ends)] = segments.ending(ends, length) + sums[ends]
    return _log_sum(ways, axis=0)


def _log_sum(values: Scores, axis: int) -> Scores:
    most = values.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(most), most, 0.0)
    with np.errstate(divide="ignore"):
        sums: Scores = np.log(np.exp(values - shift).sum(axis=axis)) + shift.squeeze(axis)
    return sums


def _columns(logits: Scores, scheme: LabelScheme, labels: tuple[str, ...], part: Part) -> Scores:
    """Takes the logit of a part of a span of each label; without such a label there can be none. [units, labels]"""
    columns = [_column(scheme, label, part) for label in labels]
    taken = logits[:, [0 if column is None else column for column in columns]]
    taken[:, [place for place, column in enumerate(columns) if column is None]] = _NONE
    return taken


def _column(scheme: LabelScheme, label: str, part: Part) -> int | None:
    if label == OUTSIDE:
        return scheme.names.index(OUTSIDE)
    return scheme.column(part, label)


def _longest(scheme: LabelScheme, label: str) -> int:
    """Says how many units a segment may have for all that the labels allow; many if any."""
    if label == OUTSIDE:
        return 1
    return 2 if scheme.column("inner", label) is None else 2**31
