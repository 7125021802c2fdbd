"""Agreement with the owner's scores: equal ones pass, and each way to be wrong is told with its mend."""

from collections.abc import Sequence

import numpy as np
import pytest

from rankport.exporters.options.reference_file import (
    EmbeddedText,
    Reference,
    ReferenceTransform,
    ScoredPair,
    ScoredRequest,
)
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.proof.agreement import (
    AgreementLimits,
    OwnerAgreement,
    agreement_of_embeddings,
    agreement_of_scores,
    agreement_of_similarities,
)
from rankport.protos.errors import InvalidRequest
from support.bundle_samples import ranker_draft

STRICT = AgreementLimits(1e-3, 0.99, 0.9999)
LOGITS = [np.array([3.0, -1.0, 0.5, 2.0]), np.array([-4.0, 1.0, -2.0])]
OURS = [1 / (1 + np.exp(-logits)) for logits in LOGITS]


def agreement(
    owner: Sequence[object],
    transform: ReferenceTransform,
    ours: Sequence[np.ndarray] = OURS,
    positive: int = 0,
) -> OwnerAgreement:
    requests = []
    for place, scores in enumerate(owner):
        values = tuple(scores if not isinstance(scores, np.ndarray) else scores.tolist())  # type: ignore[arg-type]
        items = tuple(f"item {index}" for index in range(len(values)))
        lines = tuple(f"line {place}.{index}" for index in range(len(values)))
        requests.append(ScoredRequest("prefix", items, values, lines))
    reference = Reference("a" * 64, transform, requests=tuple(requests))
    return agreement_of_scores(reference, ours, 0, STRICT, positive)


@pytest.mark.parametrize(
    ("transform", "owner"),
    [
        ("none", OURS),
        ("sigmoid", LOGITS),
        ("exp", [np.log(ours) for ours in OURS]),
        ("rank", [logits * 7 + 3 for logits in LOGITS]),
        ("softmax", [[[value + 5, 5.0] for value in logits.tolist()] for logits in LOGITS]),
    ],
)
def test_equal_scores_agree_after_their_transform(
    transform: ReferenceTransform, owner: Sequence[object]
) -> None:
    found = agreement(owner, transform)
    assert found.miss == ""
    assert found.figures.kendall_tau == 1.0
    assert (found.figures.requests, found.figures.items) == (2, 7)
    if transform == "rank":
        assert (found.figures.max_abs_error, found.figures.max_abs_tolerance) == (None, None)
    else:
        assert found.figures.max_abs_error == pytest.approx(0, abs=1e-12)
        assert found.figures.pearson == pytest.approx(1)


def test_a_probability_becomes_a_logit() -> None:
    assert agreement(OURS, "logit", LOGITS).miss == ""


def test_the_other_label_of_a_softmax_is_told() -> None:
    owner = [[[value, 0.0] for value in logits.tolist()] for logits in LOGITS]
    assert agreement(owner, "softmax").miss == ""
    assert (
        "the order is reversed: is another label the positive one?"
        in agreement(owner, "softmax", OURS, 1).miss
    )


def test_swapped_scores_are_told_with_the_worst_line() -> None:
    swapped = [OURS[0][[1, 0, 2, 3]], OURS[1]]
    miss = agreement(swapped, "none").miss
    assert "Kendall tau 0.166667, allowed 0.99" in miss
    assert "line 0.0, item 0 of its prefix: yours 0.268941, the bundle's 0.952574" in miss
    assert "check prompt, labels and tokenizer" in miss


def test_a_transform_that_fits_is_named() -> None:
    assert "--reference-transform sigmoid fits" in agreement(LOGITS, "none").miss
    assert "--reference-transform logit fits" in agreement(OURS, "none", LOGITS).miss


def test_an_order_without_values_is_told() -> None:
    miss = agreement([3 * ours for ours in OURS], "none").miss
    assert "the order agrees, the values do not" in miss
    assert agreement([3 * ours for ours in OURS], "rank").miss == ""


def test_a_score_that_the_transform_cannot_take_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"line 1\.0: --reference-transform logit"):
        agreement([OURS[0], np.array([1.0, 0.5, 0.2])], "logit", LOGITS)


def test_small_probabilities_in_another_order_are_caught() -> None:
    tiny = [ours * 1e-7 for ours in OURS]
    assert agreement(tiny, "none", tiny).miss == ""
    miss = agreement([tiny[0][::-1], tiny[1][::-1]], "none", tiny).miss
    assert "Kendall tau" in miss


def test_embeddings_agree_by_direction_and_the_worst_is_named() -> None:
    rows = [np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]])]
    texts = tuple(EmbeddedText(f"t{i}", 2 * row, f"line {i}") for i, row in enumerate(rows))
    reference = Reference("a" * 64, "none", embeddings=texts)
    assert agreement_of_embeddings(reference, rows, 0, STRICT).miss == ""
    other = agreement_of_embeddings(reference, [rows[0], np.array([[0.8, 0.6]])], 0, STRICT)
    assert other.figures.least_cosine == pytest.approx(0.8)
    assert "worst: line 1, cosine 0.8" in other.miss
    with pytest.raises(InvalidRequest, match=r"line 0: the embedding is \[1, 2\], the bundle makes \[1, 3\]"):
        agreement_of_embeddings(reference, [np.ones((1, 3))], 0, STRICT)


def test_cosines_of_pairs_are_compared_by_value_and_order() -> None:
    pairs = tuple(ScoredPair(("a", str(i)), score, f"line {i}") for i, score in enumerate((0.9, 0.1, -0.4)))
    reference = Reference("a" * 64, "none", pairs=pairs)
    assert agreement_of_similarities(reference, np.array([0.9, 0.1, -0.4]), 0, STRICT).miss == ""
    miss = agreement_of_similarities(reference, np.array([0.1, 0.9, -0.4]), 0, STRICT).miss
    assert "Kendall tau" in miss
    assert "max abs error 0.8, allowed 0.001" in miss


def test_limits_are_strict_in_fp32_looser_where_a_bundle_rounds_and_the_users_first() -> None:
    exact, half = ranker_draft(), ranker_draft(precision="fp16")
    assert AgreementLimits.of(Tolerance(), exact) == AgreementLimits(1e-3, 0.99, 0.9999)
    assert AgreementLimits.of(Tolerance(), half) == AgreementLimits(2e-2, 0.95, 0.99)
    chosen = Tolerance(max_reference_error=0.5, min_reference_tau=0.1, min_reference_cosine=0.2)
    assert AgreementLimits.of(chosen, exact) == AgreementLimits(0.5, 0.1, 0.2)
