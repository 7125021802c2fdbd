"""Movies and who watched them when: texts, what a history is, and the split by time.

Owns what the example may know: nothing of a rating behind the split but which movie is to be found.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.ligr.dataset import DAY, Ratings, movie_rows

LEARNED = 0.85
"""Share of the ratings, the earliest, that are learned from."""

HISTORY = 16
"""Movies of a history at most, the latest."""

Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Case:
    """Movies that somebody watched before the split, and the first movie behind it."""

    seen: list[int]  # all, the latest last
    wanted: int


@dataclass(frozen=True, slots=True)
class Movies:
    """Movies that were rated before the split, and the histories of their viewers."""

    texts: list[str]
    genres: NDArray[np.float32]  # [movies, genres]
    years: NDArray[np.float32]  # [movies]
    histories: list[list[int]]  # of viewers before the split, in the order of time
    ages: list[list[float]]  # days from each of these to the split
    recent: Whole  # [movies] ratings in the week before the split
    all_time: Whole  # [movies] ratings before the split
    cases: list[Case]

    @classmethod
    def load(cls) -> "Movies":
        """Reads the files and splits."""
        ratings, rows = Ratings.load(), movie_rows()
        split = int(ratings.times[int(LEARNED * len(ratings.times))])
        before = ratings.times < split
        known = np.unique(ratings.movies[before])
        number = {int(movie): place for place, movie in enumerate(known)}
        week = ratings.movies[before & (ratings.times >= split - 7 * DAY)]
        histories, firsts = _histories(ratings, before, number)
        ages = defaultdict[int, list[float]](list)
        for user, time in zip(ratings.users[before].tolist(), ratings.times[before].tolist(), strict=True):
            ages[user].append((split - time) / DAY)
        return cls(
            texts=[text_of(rows[movie]) for movie in known],
            genres=ratings.genres[known],
            years=np.array([rows[movie]["year"] for movie in known], np.float32),
            histories=list(histories.values()),
            ages=list(ages.values()),
            recent=np.bincount(week, minlength=ratings.movie_count)[known],
            all_time=np.bincount(ratings.movies[before], minlength=ratings.movie_count)[known],
            cases=[
                Case(histories[user], wanted) for user, wanted in firsts.items() if len(histories[user]) > 2
            ],
        )

    def __len__(self) -> int:
        return len(self.texts)


def text_of(row: dict[str, str]) -> str:
    """Writes a movie: title, year and genres."""
    return f"{row['title']} ({row['year']}): {row['genres'].replace('|', ', ') or 'no genre'}"


def vectors(movies: Movies, width: int, seed: int) -> NDArray[np.float32]:
    """Describes each movie by who watched it, its genres and its time. [movies, width + genres + 1]

    Who watched what is a matrix of unit columns, of which the first `width` singular directions are kept.
    """
    watched = np.zeros((len(movies.histories), len(movies)), np.float32)
    for viewer, history in enumerate(movies.histories):
        watched[viewer, history] = 1
    watched /= np.sqrt(np.maximum(watched.sum(axis=1, keepdims=True), 1))
    watched /= np.sqrt(np.maximum(watched.sum(axis=0), 1))
    directions = _directions(watched, width, seed)
    taste = watched.T @ directions
    era = ((movies.years - movies.years.mean()) / movies.years.std())[:, None]
    kinds = movies.genres / np.maximum(np.sqrt(movies.genres.sum(axis=1, keepdims=True)), 1)
    return np.column_stack([2 * taste, 0.5 * kinds, 0.25 * era]).astype(np.float32)


def ranked_by(counts: Whole, case: Case, top_k: int) -> list[int]:
    """Lists the movies of the highest counts that were not seen."""
    return unseen(np.argsort(-counts, kind="stable").tolist(), case, top_k)


def unseen(order: Sequence[int], case: Case, top_k: int) -> list[int]:
    """Keeps the first `top_k` of an order that were not seen."""
    seen = set(case.seen)
    return [movie for movie in order if movie not in seen][:top_k]


def recall_and_ndcg(found: Sequence[Sequence[int]], cases: Sequence[Case]) -> dict[str, float]:
    """Averages, over cases, whether the wanted movie is among those found, and how high."""
    places = [
        list(order).index(case.wanted) if case.wanted in order else None
        for order, case in zip(found, cases, strict=True)
    ]
    gains = [0.0 if place is None else 1 / np.log2(place + 2) for place in places]
    return {"recall_at_10": float(np.mean([gain > 0 for gain in gains])), "ndcg_at_10": float(np.mean(gains))}


def _histories(
    ratings: Ratings, before: NDArray[np.bool_], number: dict[int, int]
) -> tuple[defaultdict[int, list[int]], dict[int, int]]:
    """Lists what each viewer watched before the split, and the first known movie behind it."""
    histories, firsts = defaultdict[int, list[int]](list), dict[int, int]()
    for user, movie, learned in zip(
        ratings.users.tolist(), ratings.movies.tolist(), before.tolist(), strict=True
    ):
        if learned:
            histories[user].append(number[movie])
        elif movie in number and user not in firsts:
            firsts[user] = number[movie]
    return histories, firsts


def _directions(matrix: NDArray[np.float32], width: int, seed: int) -> NDArray[np.float32]:
    """Finds the first left singular vectors, by subspace iteration. [rows, width]"""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(matrix.shape[1], width)).astype(np.float32)
    for _ in range(4):
        basis = matrix.T @ np.linalg.qr(matrix @ basis)[0]
    return np.linalg.qr(matrix @ basis)[0]
