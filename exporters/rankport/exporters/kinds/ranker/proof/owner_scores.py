"""The owner's texts scored by a ranker bundle, through the whole in-process runtime."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.options.reference_file import Reference, ScoredRequest
from rankport.exporters.proof.agreement import AgreementLimits, OwnerAgreement, agreement_of_scores
from rankport.protos.errors import ParityError, RankportError
from rankport.protos.types import ItemStatus, ScoreResult
from rankport.runtime.kinds.ranker.ranker import Ranker


@dataclass(frozen=True, slots=True)
class OwnerRun:
    """Agreement, and the items behind it."""

    agreement: OwnerAgreement
    tokens: NDArray[np.int64]  # [items]
    scores: NDArray[np.float64]  # [items] of the bundle


def run_reference(
    ranker: Ranker,
    reference: Reference,
    limits: AgreementLimits,
    positive: int,
    on_request: Callable[[int], None] = lambda done: None,
) -> OwnerRun:
    """Scores every request of the owner's. Texts beyond the bundle's limits are cut, as they are in production.

    Raises:
        InvalidRequest: a request does not fit the bundle; the message names its line.
        ParityError: the bundle gives no number where the owner has one.
    """
    ours: list[NDArray[np.float64]] = []
    tokens: list[int] = []
    truncated = 0
    for done, request in enumerate(reference.requests, 1):
        result = _scored(ranker, request)
        tokens += [
            len(run.ids) for run in ranker.encode(request.prefix, request.items, truncation="truncate")[1]
        ]
        truncated += sum(status is ItemStatus.TRUNCATED for status in result.status)
        ours.append(result.scores.astype(np.float64))
        on_request(done)
    agreement = agreement_of_scores(reference, ours, truncated, limits, positive)
    return OwnerRun(agreement, np.array(tokens, np.int64), np.concatenate(ours))


def _scored(ranker: Ranker, request: ScoredRequest) -> ScoreResult:
    try:
        result = ranker.score(request.prefix, request.items, truncation="truncate", on_missing="fail")
    except RankportError as error:
        raise type(error)(f"{request.place}: {error}") from error
    lost = np.flatnonzero(~np.isfinite(result.scores))
    if len(lost):
        raise ParityError(
            f"{request.places[lost[0]]}: the bundle gives {result.scores[lost[0]]} for the item"
        )
    return result
