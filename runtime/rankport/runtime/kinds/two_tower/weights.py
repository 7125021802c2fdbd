"""Weights of a vocabulary: representations of which only what is not 0 is kept.

With its zeros a text has a value for each token of the vocabulary, so few texts at once are computed for one call.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

import numpy as np

from rankport.protos.errors import BackendError, InvalidRequest
from rankport.protos.sparse import SparseRows
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.kinds.text_engine import TextRows
from rankport.runtime.kinds.two_tower.reader import Reader
from rankport.runtime.kinds.two_tower.rules import is_sparse
from rankport.runtime.scheduling.futures import converted, gathered, resolved
from rankport.runtime.tokens import TokenRuns

_TEXTS = 128
"""Texts that wait together for their weights: 16 MB of a vocabulary of 30,000."""


def require_weights(manifest: Manifest) -> None:
    """Raises InvalidRequest for a bundle whose representations are no weights of tokens."""
    if not is_sparse(manifest):
        raise InvalidRequest(
            f"bundle {manifest.name!r} makes dense representations, no weights of a vocabulary: ask it for these "
            "(encode, represent)"
        )


def require_storable(manifest: Manifest) -> None:
    """Raises InvalidRequest for a bundle whose representations no store keeps."""
    if is_sparse(manifest):
        raise InvalidRequest(
            f"store: bundle {manifest.name!r} makes weights of a vocabulary, which no store keeps: leave the store out"
        )


@dataclass(frozen=True, slots=True)
class WeightRows:
    """Weights of texts, and the seconds that they waited and took at most."""

    rows: SparseRows
    queue_s: float
    compute_s: float


def submitted_weights(
    reader: Reader, runs: TokenRuns, width: int, timeout_s: float | None, spent_s: float
) -> "Future[WeightRows]":
    """Queues runs, a few at a time, and gives what is not 0 of their rows [width]. Raises as `Reader.submit`."""
    joined = partial(_joined, width)
    if not len(runs):
        return resolved(joined(()))
    parts: list[Future[WeightRows]] = []
    try:
        for start in range(0, len(runs), _TEXTS):
            queued = reader.submit(runs.part(start, min(start + _TEXTS, len(runs))), timeout_s, spent_s)
            parts.append(converted(queued, _kept))
    except BaseException:
        for part in parts:
            part.cancel()
        raise
    return converted(gathered(parts), joined)


def _joined(width: int, parts: Sequence[WeightRows]) -> WeightRows:
    return WeightRows(
        SparseRows.joined([part.rows for part in parts], width),
        max((part.queue_s for part in parts), default=0.0),
        max((part.compute_s for part in parts), default=0.0),
    )


def _kept(answer: TextRows) -> WeightRows:
    return WeightRows(SparseRows.of_dense(answer.rows[:, 0]), answer.queue_s, answer.compute_s)


def finite_weights(answer: WeightRows) -> SparseRows:
    """Gives the weights. Raises BackendError where one is not finite."""
    if not np.isfinite(answer.rows.values).all():
        raise BackendError("weights are not finite: check the texts and the checkpoint")
    return answer.rows
