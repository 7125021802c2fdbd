"""Nearness of movies to histories, by who rated both: item-kNN and what is like it, in sparse products."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from examples.ligr.dataset import DAY, Moment, Values, Whole

_FADING_DAYS = 20.0
_RECENT_DAYS = 14


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Nearness of each movie to users' histories. [users, movies] each"""

    near: Values  # sum of the cosines with the movies of the history: item-kNN
    fading: Values  # the same, movies weighing less the longer ago they were rated
    fading_weight: Values  # [users, 1] sum of these weights
    alike: Values  # users who rated in the last 14 days, by how alike they are: user-kNN

    @classmethod
    def of(cls, moment: Moment, users: Whole) -> "Neighbours":
        """Computes it for users from all ratings before the moment."""
        ratings, end = moment.ratings, moment.end
        who, what = ratings.users[:end], ratings.movies[:end]
        since = (moment.now - ratings.times[:end]) / DAY
        shape = (ratings.user_count, ratings.movie_count)
        unit = 1 / np.sqrt(np.maximum(np.bincount(what, minlength=shape[1]), 1))
        columns = _sparse(who, what, unit[what], shape)  # of length 1
        place = np.full(shape[0], -1)
        place[users] = np.arange(len(users))
        own = place[who] >= 0
        rows, cells = place[who[own]], what[own]
        kept = np.exp(-since[own] / _FADING_DAYS)
        history, faded = np.zeros((2, len(users), shape[1]), np.float32)
        history[rows, cells], faded[rows, cells] = 1, kept
        overlap = columns @ _dense(history)  # [all users, users]
        length = np.sqrt(np.maximum(np.bincount(who, minlength=shape[0]), 1))
        recent = since < _RECENT_DAYS
        lately = _sparse(who[recent], what[recent], 1 / length[who[recent]], shape)
        back = columns.t().coalesce()
        return cls(
            near=_rows(back @ overlap),
            fading=_rows(back @ (columns @ _dense(faded))),
            fading_weight=np.bincount(rows, kept, minlength=len(users)).astype(np.float32)[:, None],
            alike=_rows(lately.t().coalesce() @ overlap),
        )


def _sparse(rows: Whole, columns: Whole, values: Values, shape: tuple[int, int]) -> Tensor:
    places = torch.from_numpy(np.stack([rows, columns]))
    return torch.sparse_coo_tensor(
        places, torch.from_numpy(values).float(), shape, check_invariants=True
    ).coalesce()


def _dense(rows: Values) -> Tensor:
    return torch.from_numpy(rows).T.contiguous()


def _rows(columns: Tensor) -> Values:
    rows: Values = columns.T.contiguous().numpy()
    return rows
