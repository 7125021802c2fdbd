"""Judged requests answered by a ranker bundle, and the ranking quality that follows.

Quality is NDCG of the source and of the bundle over the same candidates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.options.requests_file import JudgedRequest
from rankport.exporters.proof.compare import Logits, RankValues
from rankport.exporters.proof.evidence import Series
from rankport.exporters.proof.metrics import ndcg
from rankport.protos.errors import RankportError
from rankport.runtime.bundle.manifest import Quality
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.tokens import TokenRun


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A judged request as the bundle saw and answered it."""

    request: JudgedRequest
    prefix: TokenRun
    items: tuple[TokenRun, ...]
    logits: Logits
    scores: NDArray[np.float32]  # [items]


def run_judged(
    ranker: Ranker,
    requests: Sequence[JudgedRequest],
    on_request: Callable[[int], None] = lambda done: None,
) -> list[JudgedRun]:
    """Scores every request through the whole in-process runtime."""
    runs = []
    for done, request in enumerate(requests, 1):
        try:
            prefix, items = ranker.encode(request.prefix, request.items)
        except RankportError as error:
            raise type(error)(f"{request.place}: {error}") from error
        result = ranker.score(request.prefix, request.items)
        runs.append(JudgedRun(request, prefix, tuple(items), result.logits, result.scores))
        on_request(done)
    return runs


def quality_of(runs: Sequence[JudgedRun], expected: Sequence[Logits], rank_values: RankValues) -> Quality:
    """Computes NDCG of the source, whose logits are `expected`, and of the bundle."""
    actual = [run.logits for run in runs]
    return Quality(
        requests=len(runs),
        ndcg_at_1_source=float(np.mean(_ndcg(runs, expected, 1, rank_values))),
        ndcg_at_1_bundle=float(np.mean(_ndcg(runs, actual, 1, rank_values))),
        ndcg_at_10_source=float(np.mean(_ndcg(runs, expected, 10, rank_values))),
        ndcg_at_10_bundle=float(np.mean(_ndcg(runs, actual, 10, rank_values))),
    )


def ndcg_by_request(runs: Sequence[JudgedRun], expected: Sequence[Logits], rank_values: RankValues) -> Series:
    """Computes NDCG@10 of each request, of the source and of the bundle."""
    actual = [run.logits for run in runs]
    source, bundle = (_ndcg(runs, logits, 10, rank_values) for logits in (expected, actual))
    return Series.of("NDCG@10", source, bundle)


def _ndcg(
    runs: Sequence[JudgedRun], logits: Sequence[Logits], k: int, rank_values: RankValues
) -> list[float]:
    return [ndcg(rank_values(rows), run.request.gains, k) for rows, run in zip(logits, runs, strict=True)]
