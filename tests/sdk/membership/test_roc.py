"""ROC of scores: areas and rates computed by hand, and what too few users cannot resolve."""

import numpy as np
import pytest

from rankport.sdk.membership.roc import RATES, Interval, Ranking, roc_figures

MEMBERS = np.array([True, True, True, False, False])


def test_the_area_counts_pairs_and_half_of_ties() -> None:
    scores = np.array([3.0, 2.0, 1.0, 2.0, 0.0])
    # Of six pairs of a member and another, four are in order, one is a tie.
    assert Ranking(scores, MEMBERS).curve().auc == pytest.approx(4.5 / 6)


def test_a_rate_that_one_user_exceeds_is_not_resolved() -> None:
    members = np.arange(300) < 200
    scores = np.where(members, 1.0, 0.0)
    (figures,), _ = roc_figures([scores], members, 100, np.random.default_rng(0))
    low, high = RATES
    assert figures.true_at[low] is None
    resolved = figures.true_at[high]
    assert resolved is not None
    assert (resolved.value, resolved.low, resolved.high) == (1.0, 1.0, 1.0)
    assert figures.auc.value == 1.0


def test_true_positives_are_those_above_all_but_the_rate() -> None:
    others = np.arange(1000.0)
    ours = np.array([999.5, 998.5, 997.5, -1.0])
    curve = Ranking(np.append(ours, others), np.arange(1004) < 4).curve()
    assert [curve.true_at(rate, 1000) for rate in (0.001, 0.002, 0.01)] == [0.5, 0.75, 0.75]


def test_a_widened_interval_stays_within_what_the_figure_can_be() -> None:
    assert Interval(0.25, 0.125, 0.5).widened(2.0) == Interval(0.25, 0.0, 0.75)
    assert Interval(0.25, 0.0, 0.75).widened(4.0) == Interval(0.25, 0.0, 1.0)
    assert Interval(0.25, 0.0, 0.5).widened(4.0, least=-1.0) == Interval(0.25, -0.75, 1.0)
