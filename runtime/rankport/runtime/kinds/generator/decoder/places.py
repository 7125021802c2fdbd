"""Questions of several requests to one pass: log-probabilities of tokens behind places of theirs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.write_contract import DecodeBackend
from rankport.runtime.scheduling.passes.pass_results import check_count
from rankport.runtime.scheduling.work import on_device

Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows of a request's results, and the token behind each. [asked] each"""


def log_probabilities(
    name: str, backend: DecodeBackend, batch: PrefixBatch, results: Sequence[int], parts: Sequence[Places]
) -> list[NDArray[np.float64]]:
    """Computes what each of several requests asks for, given how many results each has in the batch. [asked] each

    Raises BackendError as `on_device` of the pass's name.
    """
    before = np.cumsum([0, *results[:-1]])
    rows = np.concatenate([rows + first for (rows, _), first in zip(parts, before, strict=True)])
    tokens = np.concatenate([tokens for _, tokens in parts])
    answers = on_device(name, backend.log_probabilities, batch, rows, tokens)
    check_count(name, len(answers), len(tokens), "token")
    return np.split(answers, np.cumsum([len(tokens) for _, tokens in parts])[:-1])
