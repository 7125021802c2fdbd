"""MovieTweetings: who rated which movie when, and what may be known of both at a moment."""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"
DAY = 86_400
Whole = NDArray[np.int64]
Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ratings:
    """Ratings in the order of time, of users and movies by number."""

    users: Whole  # [ratings]
    movies: Whole  # [ratings]
    values: Values  # [ratings] 0 to 10
    times: Whole  # [ratings] seconds
    genres: Values  # [movies, genres] 0 or 1

    @classmethod
    def load(cls) -> "Ratings":
        """Reads the files."""
        items = movie_rows()
        names = sorted({genre for item in items for genre in item["genres"].split("|") if genre})
        genres = np.zeros((len(items), len(names)), np.float32)
        place = {item["item_id"]: row for row, item in enumerate(items)}
        for row, item in enumerate(items):
            for genre in filter(None, item["genres"].split("|")):
                genres[row, names.index(genre)] = 1
        rated = sorted(_rows("ratings.csv.gz"), key=lambda row: int(row["ts"]))
        users = {user: number for number, user in enumerate(sorted({row["user_id"] for row in rated}))}
        return cls(
            np.array([users[row["user_id"]] for row in rated]),
            np.array([place[row["item_id"]] for row in rated]),
            np.array([row["rating"] for row in rated], np.float32),
            np.array([row["ts"] for row in rated], np.int64),
            genres,
        )

    @property
    def movie_count(self) -> int:
        """Movies."""
        return len(self.genres)


@dataclass(frozen=True, slots=True)
class Moment:
    """Knowledge at one moment: nothing of it is from later."""

    ratings: Ratings
    now: int
    popular: tuple[Values, Values]  # ratings of each movie in the last 7 and 30 days
    age: Values  # days since the first rating of each movie, at most 60; 0: there is none
    rated: Values  # [users, movies] columns of length 1: who rated it

    @classmethod
    def at(cls, ratings: Ratings, now: int) -> "Moment":
        """Counts all that was before."""
        before, movies = ratings.times < now, ratings.movie_count
        counts = [
            np.bincount(ratings.movies[before & (ratings.times >= now - days * DAY)], minlength=movies)
            for days in (7, 30)
        ]
        first = np.full(movies, now)
        np.minimum.at(first, ratings.movies[before], ratings.times[before])
        rated = np.zeros((ratings.users.max() + 1, movies), np.float32)
        rated[ratings.users[before], ratings.movies[before]] = 1
        rated /= np.maximum(np.sqrt(rated.sum(axis=0)), 1)
        age = np.minimum((now - first) / DAY, 60).astype(np.float32)
        return cls(ratings, now, (counts[0].astype(np.float32), counts[1].astype(np.float32)), age, rated)

    def neighbours(self, movies: Whole) -> Values:
        """Sums the cosines of each movie with those of a history: item-kNN. [movies]"""
        near: Values = self.rated[:, movies].sum(axis=1) @ self.rated
        return near


def movie_rows() -> list[dict[str, str]]:
    """Reads title, year and genres of each movie."""
    return _rows("items.csv.gz")


def _rows(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / name, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
