"""Slates: what a user did before a moment, the candidates then, and which of them came next."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.ligr.dataset import DAY, Moment, Ratings, Values, Whole

POPULAR, NEAR = 100, 50
LEAST_EVENTS, MOST_EVENTS = 5, 64
NEXT_DAYS = 14
LIKED = 8.0


@dataclass(frozen=True, slots=True)
class Slate:
    """One request and its answers."""

    history: dict[str, NDArray[np.generic]]  # columns of events
    times: Whole  # [events]
    now: int
    candidates: dict[str, NDArray[np.generic]]  # columns of candidates
    watched: Values  # [candidates] 1 where the user rated it within the next days
    liked: Values  # [candidates] 1 where by 8 or more
    nexts: int  # movies rated within these days, candidates or not

    @property
    def movies(self) -> Whole:
        """Candidates by number."""
        return self.candidates["movie"].astype(np.int64)


def slates_at(ratings: Ratings, now: int) -> Iterator[Slate]:
    """Makes the slate of every user who has a history, and of whose next movies one at least is a candidate."""
    moment = Moment.at(ratings, now)
    end = np.searchsorted(ratings.times, now)
    last = np.searchsorted(ratings.times, now + NEXT_DAYS * DAY)
    for user in np.unique(ratings.users[end:last]):
        past = np.flatnonzero(ratings.users[:end] == user)
        after = np.flatnonzero(ratings.users[end:last] == user) + end
        if len(past) >= LEAST_EVENTS:
            slate = _slate(moment, past, after)
            if slate.watched.any():
                yield slate


def _slate(moment: Moment, past: Whole, after: Whole) -> Slate:
    ratings = moment.ratings
    seen = ratings.movies[past]
    near = moment.neighbours(seen)
    unseen = np.ones(ratings.movie_count, np.bool_)
    unseen[seen] = False
    by_popularity = np.argsort(-(moment.popular[0] + moment.popular[1] / 30) * unseen, kind="stable")[
        :POPULAR
    ]
    by_nearness = np.argsort(-near * unseen, kind="stable")[:NEAR]
    movies = np.union1d(by_popularity, by_nearness)
    events = past[-MOST_EVENTS:]
    nexts = dict(zip(ratings.movies[after].tolist(), ratings.values[after].tolist(), strict=True))
    return Slate(
        history={
            "movie": ratings.movies[events],
            "genres": ratings.genres[ratings.movies[events]],
            "rating": ratings.values[events],
        },
        times=ratings.times[events],
        now=moment.now,
        candidates={
            "movie": movies,
            "genres": ratings.genres[movies],
            "week": np.log1p(moment.popular[0][movies]),
            "month": np.log1p(moment.popular[1][movies]),
            "near": np.log1p(near[movies]),
            "near_of_events": (near[movies] / len(seen)).astype(np.float32),
            "age": moment.age[movies],
        },
        watched=np.array([movie in nexts for movie in movies.tolist()], np.float32),
        liked=np.array([nexts.get(movie, 0) >= LIKED for movie in movies.tolist()], np.float32),
        nexts=len(nexts),
    )


def ndcg(order: Whole, slate: Slate, places: int = 10) -> float:
    """Computes NDCG at 10 of an order of candidates: of all next movies, those that are no candidates too."""
    gains = slate.watched[order[:places]]
    discounts = 1 / np.log2(np.arange(2, places + 2))
    return float(gains @ discounts[: len(gains)] / discounts[: min(places, slate.nexts)].sum())


def diversity(order: Whole, slate: Slate, places: int = 10) -> float:
    """Computes 1 less the mean Jaccard index of the genres of all pairs among the first."""
    genres = slate.candidates["genres"][order[:places]]
    common = genres @ genres.T
    sizes = genres.sum(axis=1)
    either = np.maximum(sizes[:, None] + sizes[None] - common, 1)
    pairs = np.triu_indices(len(genres), 1)
    return float(1 - (common / either)[pairs].mean())
