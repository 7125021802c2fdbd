"""Slates: what a user did before a moment, the candidates then, and which of them came next."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from examples.ligr.dataset import DAY, Moment, Ratings, Values, Whole
from examples.ligr.neighbours import Neighbours

POPULAR, NEAR = 100, 50
LEAST_EVENTS, MOST_EVENTS = 5, 48
NEXT_DAYS = 14
LIKED = 8.0


@dataclass(frozen=True, slots=True)
class Slate:
    """One request and its answers."""

    user: int
    history: dict[str, NDArray[np.generic]]  # columns of events
    times: Whole  # [events]
    now: int
    candidates: dict[str, NDArray[np.generic]]  # columns of candidates
    rules: dict[str, Values]  # [candidates] what is ranked by without a model
    watched: Values  # [candidates] 1 where the user rated it within the next days
    liked: Values  # [candidates] 1 where by 8 or more
    nexts: int  # movies rated within these days, candidates or not


def slates_at(ratings: Ratings, now: int) -> Iterator[Slate]:
    """Makes the slate of every user who has a history, and of whose next movies one at least is a candidate."""
    moment = Moment.at(ratings, now)
    last = np.searchsorted(ratings.times, now + NEXT_DAYS * DAY)
    pasts = _by_user(ratings.users[: moment.end], 0)
    afters = _by_user(ratings.users[moment.end : last], moment.end)
    users = np.array([user for user in afters if len(pasts.get(user, ())) >= LEAST_EVENTS])
    neighbours = Neighbours.of(moment, users)
    for place, user in enumerate(users.tolist()):
        slate = _slate(moment, neighbours, place, user, pasts[user], afters[user])
        if slate.watched.any():
            yield slate


def _slate(moment: Moment, neighbours: Neighbours, place: int, user: int, past: Whole, after: Whole) -> Slate:
    ratings = moment.ratings
    seen, near = ratings.movies[past], neighbours.near[place]
    movies = _candidates(moment, near, seen)
    nexts = dict(zip(ratings.movies[after].tolist(), ratings.values[after].tolist(), strict=True))
    of_user = _of_user(moment, neighbours, place, past, movies)
    return Slate(
        user=user,
        history=_history(ratings, past[-MOST_EVENTS:]),
        times=ratings.times[past[-MOST_EVENTS:]],
        now=moment.now,
        candidates={
            "movie": movies,
            "genres": ratings.genres[movies],
            **{name: column[movies] for name, column in moment.columns.items()},
            **of_user,
        },
        rules={
            "popularity of the week": moment.counts[7][movies],
            "popularity, fading": moment.columns["fading"][movies],
            "item-kNN": near[movies],
            "item-kNN, fading": neighbours.fading[place, movies],
            "user-kNN of the last 14 days": neighbours.alike[place, movies],
        },
        watched=np.array([movie in nexts for movie in movies.tolist()], np.float32),
        liked=np.array([nexts.get(movie, 0) >= LIKED for movie in movies.tolist()], np.float32),
        nexts=len(nexts),
    )


def _candidates(moment: Moment, near: Values, seen: Whole) -> Whole:
    """Takes the most popular of late and the nearest of what the user has not rated."""
    unseen = np.ones(len(near), np.bool_)
    unseen[seen] = False
    near = near * unseen
    linked = np.flatnonzero(near)
    nearest = linked[np.argpartition(-near[linked], NEAR)[:NEAR]] if len(linked) > NEAR else linked
    popular = moment.by_popularity[unseen[moment.by_popularity]][:POPULAR]
    movies: Whole = np.union1d(popular, nearest)
    return movies


def _history(ratings: Ratings, events: Whole) -> dict[str, NDArray[np.generic]]:
    movies = ratings.movies[events]
    gaps = np.diff(ratings.times[events], prepend=ratings.times[events[0]])
    return {
        "movie": movies,
        "genres": ratings.genres[movies],
        "rating": ratings.values[events],
        "gap": np.log1p(gaps / DAY).astype(np.float32),
        **{name: column[events] for name, column in ratings.then.items()},
    }


def _of_user(
    moment: Moment, neighbours: Neighbours, place: int, past: Whole, movies: Whole
) -> dict[str, Values]:
    """Describes candidates as this user may see them, and how much the user does of late."""
    ratings = moment.ratings
    near, fading, alike = (of[place, movies] for of in (neighbours.near, neighbours.fading, neighbours.alike))
    taste = ratings.genres[ratings.movies[past]].mean(axis=0) - moment.genres
    genres, rows = ratings.genres[movies], np.ones(len(movies))
    since = (moment.now - ratings.times[past]) / DAY
    columns = {
        "near": np.log1p(near),
        "near_of_events": near / len(past),
        "near_of_most": near / max(near.max(), 1e-6),
        "near_fading": fading / max(neighbours.fading_weight[place, 0], 1e-6),
        "fading_of_most": fading / max(fading.max(), 1e-6),
        "alike": np.log1p(alike),
        "alike_of_most": alike / max(alike.max(), 1e-6),
        "taste": genres @ taste / np.maximum(genres.sum(axis=1), 1),
        "events": np.log1p(len(past)) * rows,
        "events_of_late": np.log1p((since < 14).sum()) * rows,
        "idle": np.minimum(since[-1], 60) * rows,
        "usual_year": ratings.years[ratings.movies[past]].mean() * rows,
        "usual_age": ratings.then["age"][past].mean() * rows,
        "usual_week": ratings.then["week"][past].mean() * rows,
    }
    return {name: column.astype(np.float32) for name, column in columns.items()}


def _by_user(users: Whole, start: int) -> dict[int, Whole]:
    order = np.argsort(users, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(users[order])) + 1)
    return {int(users[part[0]]): part + start for part in parts if len(part)}


def ndcg(order: Whole, slate: Slate, places: int = 10) -> float:
    """Computes NDCG at 10 of an order of candidates: of all next movies, those that are no candidates too."""
    gains = slate.watched[order[:places]]
    discounts = 1 / np.log2(np.arange(2, places + 2))
    return float(gains @ discounts[: len(gains)] / discounts[: min(places, slate.nexts)].sum())


def by_id(slate: Slate, ids: Whole) -> Slate:
    """Names movies by the ids that others know them by, [movies], in place of their numbers here."""
    history, candidates = (
        columns | {"movie": ids[columns["movie"]]} for columns in (slate.history, slate.candidates)
    )
    return replace(slate, history=history, candidates=candidates)


def diversity(order: Whole, slate: Slate, places: int = 10) -> float:
    """Computes 1 less the mean Jaccard index of the genres of all pairs among the first."""
    genres = slate.candidates["genres"][order[:places]]
    common = genres @ genres.T
    sizes = genres.sum(axis=1)
    either = np.maximum(sizes[:, None] + sizes[None] - common, 1)
    pairs = np.triu_indices(len(genres), 1)
    return float(1 - (common / either)[pairs].mean())
