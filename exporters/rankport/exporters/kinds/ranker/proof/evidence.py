"""The values behind the figures of a ranker's proof, for its page."""

from collections.abc import Mapping, Sequence

import numpy as np

from rankport.exporters.kinds.ranker.proof.judged import JudgedRun, ndcg_by_request
from rankport.exporters.kinds.ranker.proof.modes import SampleRequest
from rankport.exporters.kinds.ranker.proof.owner_scores import OwnerRun
from rankport.exporters.proof.compare import Logits, RankValues
from rankport.exporters.proof.evidence import Evidence, LengthScores, Series


def ranker_evidence(
    expected: Sequence[Logits],
    requests: Sequence[SampleRequest],
    answers: Mapping[str, Sequence[Logits]],
    judged: tuple[Sequence[JudgedRun], Sequence[Logits]],
    owner: OwnerRun | None,
    rank_values: RankValues,
) -> Evidence:
    """Collects the logits of every mode, of the source (`expected`) and the bundle, and of judged requests too.

    `judged` are the runs of the bundle and the source's logits for them; both may be empty.
    """
    source: list[Logits] = []
    bundle: list[Logits] = []
    for mode, logits in answers.items():
        form = mode.partition("/")[2]
        source += [rows for request, rows in zip(requests, expected, strict=True) if request.form == form]
        bundle += logits
    runs, logits_of_runs = judged
    source += logits_of_runs
    bundle += [run.logits for run in runs]
    return Evidence(
        unit="label logit",
        parity=Series.of("logits", source, bundle),
        ndcg=ndcg_by_request(runs, logits_of_runs, rank_values) if runs else None,
        lengths=_lengths(runs, owner),
        owner=None if owner is None else owner.agreement.values,
    )


def _lengths(runs: Sequence[JudgedRun], owner: OwnerRun | None) -> LengthScores | None:
    """Takes judged requests before the owner's: both are real texts."""
    if runs:
        tokens = [len(item.ids) for run in runs for item in run.items]
        return LengthScores.of(tokens, np.concatenate([run.scores for run in runs]))
    return None if owner is None else LengthScores.of(owner.tokens, owner.scores)
