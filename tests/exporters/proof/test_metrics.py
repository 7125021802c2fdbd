import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankport.exporters.proof.metrics import kendall_tau, ndcg, ranking, top_k_agreement
from rankport.protos.errors import InvalidRequest

# Few distinct values, so that ties are common.
SCORES = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=12)
PAIRS = SCORES.flatmap(lambda a: st.tuples(st.just(a), st.permutations(a)))


def tau_b_by_definition(a: list[float], b: list[float]) -> float:
    """The textbook double loop."""
    concordant = discordant = only_a = only_b = 0
    for i in range(len(a)):
        for j in range(i):
            da, db = a[i] - a[j], b[i] - b[j]
            concordant += da * db > 0
            discordant += da * db < 0
            only_a += da != 0 and db == 0
            only_b += da == 0 and db != 0
    total = concordant + discordant
    return (concordant - discordant) / math.sqrt((total + only_a) * (total + only_b))


class TestNdcg:
    def test_equals_a_hand_computed_value(self):
        # Order by score: gains 0, 2, 1. DCG = 3/log2(3) + 1/log2(4); ideal = 3 + 1/log2(3).
        expected = (3 / math.log2(3) + 0.5) / (3 + 1 / math.log2(3))
        assert ndcg([0.5, 0.9, 0.1], [2, 0, 1], 10) == pytest.approx(expected, abs=1e-12)

    def test_k_cuts_both_the_order_and_the_ideal(self):
        assert ndcg([3, 2, 1], [1, 0, 2], 1) == pytest.approx(1 / 3)
        assert ndcg([3, 2, 1], [0, 2, 1], 1) == 0

    def test_ties_keep_their_input_order(self):
        assert ndcg([1, 1, 1], [0, 0, 1], 3) == pytest.approx(1 / 2)
        assert ndcg([1, 1, 1], [1, 0, 0], 3) == 1

    def test_nan_scores_rank_last(self):
        assert ndcg([math.nan, -math.inf, 5], [2, 1, 0], 3) == ndcg([-3, -2, -1], [2, 1, 0], 3)

    @given(st.lists(st.integers(0, 4), min_size=1, max_size=20).filter(any), st.integers(1, 25))
    def test_the_ideal_order_scores_one_and_no_order_more(self, gains, k):
        assert ndcg(gains, gains, k) == pytest.approx(1)
        assert 0 <= ndcg(np.arange(len(gains)), gains, k) <= 1 + 1e-12

    @pytest.mark.parametrize("gains", [[0, 0, 0], []])
    def test_a_query_without_a_positive_gain_is_refused(self, gains):
        with pytest.raises(InvalidRequest, match="NDCG is undefined"):
            ndcg(np.zeros(len(gains)), gains, 10)

    @pytest.mark.parametrize("gains", [[1, -1], [1, math.nan], [1, math.inf]])
    def test_gains_that_are_no_grades_are_refused(self, gains):
        with pytest.raises(InvalidRequest, match="finite and at least 0"):
            ndcg([1, 2], gains, 10)


class TestKendallTau:
    def test_equals_a_hand_computed_value_with_ties(self):
        # Of 6 pairs, 5 agree and 1 is tied in the first array only.
        assert kendall_tau([1, 2, 3, 3], [1, 2, 3, 4]) == pytest.approx(5 / math.sqrt(5 * 6))
        # 2 agree, 2 disagree, 1 is tied in the first only, 1 in the second only.
        assert kendall_tau([1, 1, 2, 3], [1, 2, 2, 1.5]) == pytest.approx(0)
        assert kendall_tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)

    @given(PAIRS)
    def test_equals_the_definition(self, drawn):
        a, b = drawn
        if len(set(a)) > 1:
            assert kendall_tau(a, b) == pytest.approx(tau_b_by_definition(a, b))

    @given(SCORES)
    def test_is_one_against_a_monotone_image_and_minus_one_against_its_reverse(self, scores):
        assert kendall_tau(scores, np.exp(scores)) == 1
        if len(set(scores)) > 1:
            assert kendall_tau(scores, np.negative(scores)) == -1

    def test_one_constant_array_orders_nothing(self):
        assert kendall_tau([1, 1, 1], [1, 2, 3]) == 0
        assert kendall_tau([1, 1, 1], [2, 2, 2]) == 1
        assert kendall_tau([1], [2]) == 1

    def test_nan_counts_as_the_lowest_score(self):
        assert kendall_tau([math.nan, 1, math.nan], [-9, 4, -9]) == 1
        assert kendall_tau([math.nan, -math.inf], [1, 0]) == -1


class TestTopKAgreement:
    def test_equals_a_hand_computed_share(self):
        assert top_k_agreement([5, 4, 3, 2, 1], [5, 1, 4, 3, 2], 2) == 0.5
        assert top_k_agreement([5, 4, 3, 2, 1], [5, 1, 4, 3, 2], 3) == pytest.approx(2 / 3)

    def test_order_inside_the_first_k_does_not_count(self):
        assert top_k_agreement([3, 2, 1, 0], [1, 2, 3, 0], 3) == 1

    def test_k_beyond_the_items_compares_all(self):
        assert top_k_agreement([1, 2], [2, 1], 100) == 1

    @given(PAIRS, st.integers(1, 12))
    def test_is_symmetric(self, drawn, k):
        a, b = drawn
        assert top_k_agreement(a, b, k) == top_k_agreement(b, a, k)

    def test_no_items_are_refused(self):
        with pytest.raises(InvalidRequest, match="0 items"):
            top_k_agreement([], [], 1)


def test_ranking_is_descending_stable_and_puts_nan_last():
    assert ranking([1, math.nan, 2, 1, -math.inf]).tolist() == [2, 0, 3, 4, 1]


def test_unequal_lengths_and_an_empty_cut_are_refused():
    with pytest.raises(InvalidRequest, match=r"\(2,\) and \(3,\)"):
        kendall_tau([1, 2], [1, 2, 3])
    with pytest.raises(InvalidRequest, match=r"\(1, 2\)"):
        top_k_agreement([[1, 2]], [[1, 2]], 1)
    with pytest.raises(InvalidRequest, match="not 0"):
        ndcg([1], [1], 0)
