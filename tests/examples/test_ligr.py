"""MovieTweetings as slates: the data whole, nothing of a moment from later, and the measures right."""

import dataclasses
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from examples.ligr.dataset import DAY, Moment, Ratings
from examples.ligr.neighbours import Neighbours
from examples.ligr.run import interval
from examples.ligr.slates import NEXT_DAYS, Slate, by_id, diversity, ndcg, slates_at
from examples.ligr.training import TrainingConfig, batches, drawn


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return Ratings.load()


def test_the_data_are_whole(ratings: Ratings) -> None:
    assert (len(ratings.users), ratings.movie_count, int(ratings.users.max()) + 1) == (60438, 9111, 2333)
    assert (np.diff(ratings.times) >= 0).all()
    assert len(np.unique(ratings.ids)) == ratings.movie_count
    assert [int(each) for each in ratings.ids[[0, 1]]] == [2844, 4936]


def test_a_moment_knows_nothing_of_later(ratings: Ratings) -> None:
    """A moment of all ratings is that of those before it alone."""
    now = int(ratings.times[20_000])
    before = ratings.times < now
    whole, alone = Moment.at(ratings, now), Moment.at(_part(ratings, before), now)
    assert whole.end == before.sum()
    np.testing.assert_array_equal(whole.by_popularity, alone.by_popularity)
    np.testing.assert_array_equal(whole.genres, alone.genres)
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(column, alone.columns[name], err_msg=name)
    for name, column in ratings.then.items():
        np.testing.assert_array_equal(column[before], alone.ratings.then[name], err_msg=name)
    week = ratings.movies[before & (ratings.times >= now - 7 * DAY)]
    assert whole.counts[7].sum() == len(week)


def test_a_request_is_of_what_was_before_its_moment(ratings: Ratings) -> None:
    """Slates of all ratings, and of those up to the end of the next days with the later ones' order turned around."""
    now = int(ratings.times[5_000])
    later = ratings.times < now + NEXT_DAYS * DAY
    early = _part(ratings, later)
    turned = np.where(early.times >= now, early.values[::-1], early.values)
    whole, other = slates_at(ratings, now), slates_at(dataclasses.replace(early, values=turned), now)
    for one, same in zip(itertools.islice(whole, 20), other, strict=False):
        assert (one.user, one.nexts) == (same.user, same.nexts)
        assert one.times.max() < now
        for columns, others in ((one.history, same.history), (one.candidates, same.candidates)):
            for name in columns:
                np.testing.assert_allclose(columns[name], others[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_item_knn_in_sparse_products_is_the_sum_of_cosines(ratings: Ratings) -> None:
    now = int(ratings.times[1_000])
    moment, users = Moment.at(ratings, now), np.unique(ratings.users[:1_000])[:1]
    rated = np.zeros((ratings.user_count, ratings.movie_count), np.float32)
    rated[ratings.users[: moment.end], ratings.movies[: moment.end]] = 1
    unit = rated / np.maximum(np.sqrt(rated.sum(axis=0)), 1)
    expected = [(unit.T @ unit[:, np.flatnonzero(rated[user])]).sum(axis=1) for user in users]
    np.testing.assert_allclose(Neighbours.of(moment, users).near, expected, atol=1e-5)


def test_drawn_candidates_hold_all_that_was_watched_and_say_how_likely_the_others_were() -> None:
    slate = _slate(watched=[0, 1, 0, 0, 1, 0], week=[0, 0, 5, 0, 0, 0])
    rng = np.random.default_rng(0)
    even, log_q = drawn(slate, TrainingConfig(candidates=4), rng)
    assert set(even[:2]) == {1, 4}
    assert len(set(even)) == 4
    np.testing.assert_allclose(log_q, [0, 0, np.log(2 / 4), np.log(2 / 4)], rtol=1e-6)
    popular, log_q = drawn(slate, TrainingConfig(candidates=4, popular=2.0), rng)
    assert 2 in popular
    assert log_q[popular == 2] == 0  # sure to be drawn


def test_a_request_by_id_names_the_same_movies(ratings: Ratings) -> None:
    slate = next(iter(slates_at(ratings, int(ratings.times[5_000]))))
    named = by_id(slate, ratings.ids)
    for given, own in ((named.history, slate.history), (named.candidates, slate.candidates)):
        assert given.keys() == own.keys()
        assert np.searchsorted(ratings.ids, given["movie"]).tolist() == own["movie"].tolist()
        assert all(given[name] is own[name] for name in own if name != "movie")


def test_batches_hold_each_slate_once_and_like_lengths_together() -> None:
    slates = [_slate(watched=[1], week=[0], events=events) for events in (3, 9, 4, 8, 5, 7)]
    for seed in range(5):
        made = batches(slates, 2, np.random.default_rng(seed))
        lengths = [[len(slate.times) for slate in batch] for batch in made]
        assert len(lengths) in (2, 3)
        assert len({id(slate) for batch in made for slate in batch}) == 2 * len(made)
        assert all(abs(one - other) <= 2 for one, other in lengths)


def test_an_interval_holds_the_mean_and_narrows_with_users() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, 400)
    low, high = interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_measures_are_those_of_their_definitions() -> None:
    genres = np.array([[1, 0], [1, 1], [0, 1]], np.float32)
    slate = dataclasses.replace(_slate([0, 1, 0], [0, 0, 0]), nexts=2)
    slate.candidates["genres"] = genres
    order = np.array([0, 1, 2])
    assert ndcg(order, slate) == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert diversity(order, slate) == pytest.approx(1 - (0.5 + 0 + 0.5) / 3)


def _slate(watched: list[float], week: list[float], events: int = 1) -> Slate:
    return Slate(
        user=0,
        history={},
        times=np.arange(events),
        now=events,
        candidates={"days_7": np.array(week, np.float32)},
        rules={},
        watched=np.array(watched, np.float32),
        liked=np.zeros(len(watched), np.float32),
        nexts=1,
    )


def _part(ratings: Ratings, kept: NDArray[np.bool_]) -> Ratings:
    parts = (part[kept] for part in (ratings.users, ratings.movies, ratings.values, ratings.times))
    return Ratings(*parts, ratings.genres, ratings.years, ratings.ids)
