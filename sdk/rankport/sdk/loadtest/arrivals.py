"""Due times and classes of requests: a plan made before the first one, so that no slow answer delays the next."""

import math

import numpy as np
from numpy.typing import NDArray

from rankport.protos.priorities import Priority
from rankport.sdk.loadtest.config import Arrivals


def due_times(
    rate: float, duration_s: float, arrivals: Arrivals, seed: int, clients: int = 1
) -> NDArray[np.float64]:
    """Plans requests over so many seconds. [requests] seconds from the start, ascending

    `clients` share the rate of constant arrivals, each from a random phase on.
    """
    draw = np.random.default_rng(seed)
    if arrivals == "fixed":
        times = np.arange(max(1, round(rate * duration_s))) / rate
    elif arrivals == "constant":
        turns = np.arange(math.ceil(rate * duration_s / clients))[:, None]
        times = np.sort((turns + draw.random(clients)).ravel() * clients / rate)
    else:
        times = np.empty(0)
        while not len(times) or times[-1] < duration_s:
            more = draw.exponential(1 / rate, max(16, int(rate * duration_s * 0.2) + 16))
            times = np.concatenate([times, np.cumsum(more) + (times[-1] if len(times) else 0.0)])
    within = times[times < duration_s]
    return within if len(within) else draw.random(1) * duration_s  # a test has one request at least


def classes(count: int, usual: Priority, background_share: float, seed: int) -> list[Priority]:
    """Draws the class of each request: the usual one, or by that share the background. [requests]"""
    lower = np.random.default_rng((seed, 1)).random(count) < background_share
    return ["background" if each else usual for each in lower.tolist()]
