"""MovieTweetings as slates: the data whole, nothing of a moment from later, and the measures right."""

import numpy as np
import pytest

from examples.ligr.dataset import DAY, Moment, Ratings
from examples.ligr.slates import Slate, diversity, ndcg


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return Ratings.load()


def test_the_data_are_whole(ratings: Ratings) -> None:
    assert (len(ratings.users), ratings.movie_count, int(ratings.users.max()) + 1) == (60438, 9111, 2333)
    assert (np.diff(ratings.times) >= 0).all()


def test_a_moment_knows_nothing_of_later(ratings: Ratings) -> None:
    """A moment of all ratings is that of those before it alone."""
    now = int(ratings.times[20_000])
    before = ratings.times < now
    parts = (part[before] for part in (ratings.users, ratings.movies, ratings.values, ratings.times))
    whole, alone = Moment.at(ratings, now), Moment.at(Ratings(*parts, ratings.genres), now)
    history = ratings.movies[:5]
    np.testing.assert_array_equal(whole.popular, alone.popular)
    np.testing.assert_array_equal(whole.age, alone.age)
    near = alone.neighbours(history)
    np.testing.assert_allclose(whole.neighbours(history), near, atol=1e-5)
    week = ratings.movies[before & (ratings.times >= now - 7 * DAY)]
    assert whole.popular[0].sum() == len(week)


def test_measures_are_those_of_their_definitions() -> None:
    genres = np.array([[1, 0], [1, 1], [0, 1]], np.float32)
    slate = Slate(
        history={},
        times=np.zeros(0, np.int64),
        now=0,
        candidates={"genres": genres},
        watched=np.array([0, 1, 0], np.float32),
        liked=np.zeros(3, np.float32),
        nexts=2,
    )
    order = np.array([0, 1, 2])
    assert ndcg(order, slate) == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert diversity(order, slate) == pytest.approx(1 - (0.5 + 0 + 0.5) / 3)
