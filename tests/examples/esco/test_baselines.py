import math

import pytest

from examples.esco.baselines import Bm25, bm25_ndcg, random_ndcg
from examples.esco.dataset import Dataset


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.load()


def test_bm25_equals_a_hand_computed_value():
    index = Bm25.build(["red fish", "blue blue fish bowl"])
    # "blue" is in one of two texts, twice in a text of 4 words; the mean text has 3.
    expected = math.log(1 + 1.5 / 1.5) * 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 4 / 3))
    assert index.scores("Blue?").tolist() == pytest.approx([0, expected])


def test_bm25_ignores_unknown_words_and_counts_repeated_ones():
    index = Bm25.build(["red fish", "blue fish"])
    assert index.scores("green").tolist() == [0, 0]
    assert index.scores("red red").tolist() == pytest.approx((2 * index.scores("red")).tolist())


def test_bm25_and_random_order_reach_their_known_quality_on_the_test_split(dataset):
    queries = dataset.split("test")
    assert bm25_ndcg(dataset, queries) == pytest.approx(0.4527, abs=0.002)
    assert random_ndcg(queries) == pytest.approx(0.345, abs=0.02)


def test_random_order_is_reproducible(dataset):
    queries = dataset.split("valid")[:5]
    assert random_ndcg(queries, seed=3) == random_ndcg(queries, seed=3) != random_ndcg(queries, seed=4)
