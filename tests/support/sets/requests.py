"""Requests of the small rankers of sets in `set_rankers`. Imports no torch."""

import numpy as np

HEADS = ("click", "dwell", "like")
NOW = 1_600_500_000
MOVIE_IDS = np.random.default_rng(9).integers(0, 2**64, 50, np.uint64)
"""Ids as owners have them, of the 50 movies in turn: half of them are more than an int64 holds."""


def by_id(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gives the columns of a request with the ids of movies in the place of their rows."""
    return columns | {"movie": MOVIE_IDS[columns["movie"]]}


def history(events: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Draws the columns of events, those of fewer the start of those of more."""
    rng = np.random.default_rng(seed)
    movies, ratings = rng.integers(0, 50, 64), rng.uniform(0, 10, 64).astype(np.float32)
    return {"movie": movies[:events], "rating": ratings[:events]}


def times(events: int) -> np.ndarray:
    """Gives times of events: an hour and a bit apart."""
    return np.arange(events, dtype=np.int64) * 3700 + 1_600_000_000


def candidates(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Draws the columns of candidates."""
    rng = np.random.default_rng(seed)
    return {
        "movie": rng.integers(0, 50, count),
        "user": rng.integers(-(2**40), 2**40, count),
        "genre": rng.standard_normal((count, 3)).astype(np.float32),
        "title": rng.standard_normal((count, 5)).astype(np.float32),
    }
