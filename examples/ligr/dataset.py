"""MovieTweetings: who rated which movie when, and what may be known of a movie at a moment."""

import csv
import gzip
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"
DAY = 86_400
COUNTED_DAYS = (1, 3, 7, 14, 30, 60)
_MOST_DAYS = 60.0  # that an age or a pause counts
_NEWEST_YEAR = 2013
_PRIOR = 5  # ratings of an average movie that each starts with
_FADING_DAYS = 5.0
Whole = NDArray[np.int64]
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Ratings:
    """Ratings in the order of time, of users and movies by number."""

    users: Whole  # [ratings]
    movies: Whole  # [ratings]
    values: Values  # [ratings] 0 to 10
    times: Whole  # [ratings] seconds
    genres: Values  # [movies, genres] 0 or 1
    years: Values  # [movies] log1p of the years before 2013
    ids: Whole  # [movies] IMDb's numbers, by which others know them

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
        years = np.array([_NEWEST_YEAR - int(item["year"]) for item in items], np.float32)
        rated = sorted(_rows("ratings.csv.gz"), key=lambda row: int(row["ts"]))
        users = {user: number for number, user in enumerate(sorted({row["user_id"] for row in rated}))}
        return cls(
            np.array([users[row["user_id"]] for row in rated]),
            np.array([place[row["item_id"]] for row in rated]),
            np.array([row["rating"] for row in rated], np.float32),
            np.array([row["ts"] for row in rated], np.int64),
            genres,
            np.log1p(np.maximum(years, 0)),
            np.array([item["imdb"] for item in items], np.int64),
        )

    @property
    def movie_count(self) -> int:
        """Movies."""
        return len(self.genres)

    @property
    def user_count(self) -> int:
        """Users."""
        return int(self.users.max()) + 1

    @cached_property
    def then(self) -> dict[str, Values]:
        """Describes each rating's movie as it was when it was rated: of what was before alone. [ratings] each"""
        week, age = np.zeros(len(self.times), np.float32), np.zeros(len(self.times), np.float32)
        by_movie = np.argsort(self.movies, kind="stable")
        for places in np.split(by_movie, np.flatnonzero(np.diff(self.movies[by_movie])) + 1):
            times = self.times[places]
            week[places] = np.arange(len(times)) - np.searchsorted(times, times - 7 * DAY)
            age[places] = (times - times[0]) / DAY
        return {"week": np.log1p(week), "age": np.minimum(age, _MOST_DAYS), "year": self.years[self.movies]}


@dataclass(frozen=True, slots=True)
class Moment:
    """Knowledge of movies at one moment: nothing of it is from later."""

    ratings: Ratings
    now: int
    end: int  # ratings that were before
    counts: dict[int, Values]  # by days: ratings of each movie in the last so many
    columns: dict[str, Values]  # [movies] features of each
    genres: Values  # [genres] of the mean rating
    by_popularity: Whole  # [movies] the most popular of late first

    @classmethod
    def at(cls, ratings: Ratings, now: int) -> "Moment":
        """Counts all that was before."""
        end, movies = int(np.searchsorted(ratings.times, now)), ratings.movie_count
        seen, times, values = ratings.movies[:end], ratings.times[:end], ratings.values[:end]
        starts = {days: np.searchsorted(times, now - days * DAY) for days in COUNTED_DAYS}
        counts = {
            days: np.bincount(seen[start:], minlength=movies).astype(np.float32)
            for days, start in starts.items()
        }
        ever = np.bincount(seen, minlength=movies)
        first, last = np.full(movies, now), np.full(movies, now - int(_MOST_DAYS) * DAY)
        np.minimum.at(first, seen, times)
        np.maximum.at(last, seen, times)
        fading = np.bincount(seen, np.exp((times - now) / DAY / _FADING_DAYS), minlength=movies)
        mean = (np.bincount(seen, values, minlength=movies) + _PRIOR * values.mean()) / (ever + _PRIOR)
        columns = {f"days_{days}": np.log1p(count) for days, count in counts.items()} | {
            "ever": np.log1p(ever),
            "fading": np.log1p(fading),
            "mean": mean,
            "age": np.minimum((now - first) / DAY, _MOST_DAYS),
            "pause": np.minimum((now - last) / DAY, _MOST_DAYS),
            "year": ratings.years,
        }
        return cls(
            ratings,
            now,
            end,
            counts,
            {name: column.astype(np.float32) for name, column in columns.items()},
            genres=ever.astype(np.float32) @ ratings.genres / max(end, 1),
            by_popularity=np.argsort(-(counts[7] + counts[30] / 30), kind="stable"),
        )


def movie_rows() -> list[dict[str, str]]:
    """Reads title, year and genres of each movie."""
    return _rows("items.csv.gz")


def _rows(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / name, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
