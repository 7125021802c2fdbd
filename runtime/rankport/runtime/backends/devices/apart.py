"""Runs of a pass whose results are no numbers, computed once more in rows of their own: one alone is at fault.

In a row of several runs a weight of 0 times no number is none, so that those beside it have none either.
"""

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import PrefixBatch

log = logging.getLogger(__name__)

_AT_ONCE = 128  # runs of a pass in which each has a row, and a copy of its prefix's KV


def each_by_itself(
    batch: PrefixBatch, runs: NDArray[np.int64], compute: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
) -> None:
    """Has some runs of a batch, ascending, computed apart: `compute` is given a part of them, and says which succeed.

    A prefix whose numbers are none is at fault for all behind it: they are left as they are, soon.
    """
    left = runs
    while len(left):
        part, left = left[:_AT_ONCE], left[_AT_ONCE:]
        try:
            succeeded = compute(part)
        except BackendError as error:
            log.warning("items beside one whose logits are no numbers are not computed apart: %s", str(error))
            return
        if not succeeded.any():
            left = left[batch.run_prefix[left] != batch.run_prefix[part[0]]]
