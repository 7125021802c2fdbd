"""Audits of embeddings whose truth is known, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.runtime.bundle.bundle import Bundle
from rankport.sdk import ItemEncoder, MembershipReport, audit_membership
from rankport.sdk.membership.samples import of_arrays

Arrays = tuple[NDArray[np.generic], NDArray[np.generic]]
FAST = {"resamples": 100, "null_rounds": 4, "repeats": 1}


def drawn(users: int, spread: float, seed: int, samples: int = 5) -> Arrays:
    """Users around centres of their own: the smaller `spread`, the closer a user's samples are."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(users, 1, 16)) + spread * random.normal(size=(users, samples, 16))
    names = np.repeat([f"{seed}-{user}" for user in range(users)], samples)
    return names, rows.reshape(-1, 16)


@pytest.fixture(scope="module")
def leaking() -> MembershipReport:
    return audit_membership(None, drawn(100, 0.5, 1), drawn(100, 1.0, 2), max_auc=0.6, **FAST)


def test_users_drawn_together_are_found(leaking: MembershipReport) -> None:
    assert leaking.strongest.figures.auc.value >= 0.9
    assert leaking.strongest.figures.auc.low > 0.6
    assert leaking.strongest.above_control.low > 0
    assert not leaking.passed
    assert "the lower end is above 0.6" in leaking.failures[0]
    assert leaking.control.auc.value == 0.5  # all users have as many samples
    assert "100 non-members resolve steps of 1.00%, and 1,000 are needed" in leaking.notes[0]


def test_a_feature_is_shown_with_the_auc_of_all_pairs_and_the_middle_of_each_side(
    leaking: MembershipReport,
) -> None:
    names, rows = drawn(100, 0.5, 1)
    assert len(set(names.tolist())) == 100  # an even number: the middle is between two users
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).reshape(100, 5, 16)
    means = [1 - (user @ user.T)[np.triu_indices(5, 1)].mean() for user in unit]
    shown = next(feature for feature in leaking.features if feature.name == "pair_mean")
    np.testing.assert_allclose(shown.members, means)
    pairs = np.sign(shown.members[:, None] - shown.others[None])
    assert shown.auc.value == pytest.approx((pairs.mean() + 1) / 2)
    features = leaking.as_json()["features"]
    assert isinstance(features, list)
    assert features[0]["name"] == "pair_mean"
    assert features[0]["median_members"] == pytest.approx(np.median(means))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_users_that_are_all_the_same_are_half_told_by_every_attack(distance: str) -> None:
    names = np.repeat(np.arange(20), 3)
    same = np.tile(np.random.default_rng(0).normal(size=8), (60, 1))
    report = audit_membership(
        None,
        (names, same),
        (names + 20, same),
        max_auc=0.5,
        strict=True,
        min_users=20,
        distance=distance,
        **FAST,
    )
    assert {(auc.value, auc.low, auc.high) for auc in (attack.figures.auc for attack in report.attacks)} == {
        (0.5, 0.5, 0.5)
    }
    assert report.passed


def test_users_drawn_alike_are_not_told_apart() -> None:
    report = audit_membership(None, drawn(100, 1.0, 3), drawn(100, 1.0, 4), max_auc=0.6, **FAST)
    for attack in report.attacks:
        assert attack.figures.auc.low <= 0.5 <= attack.figures.auc.high
    assert report.passed
    strict = audit_membership(None, drawn(100, 1.0, 3), drawn(100, 1.0, 4), max_auc=0.5, strict=True, **FAST)
    assert not strict.passed


def test_shuffled_membership_is_not_told(leaking: MembershipReport) -> None:
    for attack in leaking.attacks:
        assert abs(attack.null.mean - 0.5) < 0.1
        assert attack.null.holding >= len(attack.null.aucs) - 1
    assert leaking.strongest.p_value == pytest.approx(1 / 5)


def test_a_seed_repeats_the_figures(leaking: MembershipReport) -> None:
    again = audit_membership(None, drawn(100, 0.5, 1), drawn(100, 1.0, 2), max_auc=0.6, **FAST)
    assert again.as_json() == leaking.as_json()


def test_a_user_on_two_sides_is_refused() -> None:
    names, rows = drawn(50, 1.0, 1)
    with pytest.raises(InvalidRequest, match=r"user '1-0' is a member and a non-member \(50 users are\)"):
        audit_membership(None, (names, rows), (names, rows))


def test_too_few_users_are_refused_with_their_number() -> None:
    with pytest.raises(
        InvalidRequest, match=r"members has 9 users with at least 2 texts .* \(--min-users\), 50"
    ):
        audit_membership(None, drawn(9, 1.0, 1), drawn(60, 1.0, 2))
    with pytest.raises(InvalidRequest, match=r"\(60 have fewer\)"):
        audit_membership(None, drawn(60, 1.0, 1, samples=1), drawn(60, 1.0, 2))


def test_files_of_embeddings_are_read_as_arrays_are(tmp_path: Path, leaking: MembershipReport) -> None:
    for name, (users, rows) in {"a": drawn(100, 0.5, 1), "b": drawn(100, 1.0, 2)}.items():
        np.savez(tmp_path / f"{name}.npz", users=users, embeddings=rows)
    report = audit_membership(None, tmp_path / "a.npz", tmp_path / "b.npz", max_auc=0.6, **FAST)
    assert report.strongest.figures.auc == leaking.strongest.figures.auc
    with pytest.raises(NotFound, match=r"no file .*c\.npz"):
        audit_membership(None, tmp_path / "a.npz", tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", users=drawn(9, 1.0, 1)[0])
    with pytest.raises(InvalidRequest, match="has no array 'embeddings'"):
        audit_membership(None, tmp_path / "a.npz", tmp_path / "d.npz")


def test_lists_are_read_as_arrays_are() -> None:
    users, rows = drawn(3, 0.5, 1)
    listed, given = of_arrays("members", users.tolist(), rows.tolist()), of_arrays("members", users, rows)
    assert (listed.users, listed.owners.tolist()) == (given.users, given.owners.tolist())
    np.testing.assert_array_equal(listed.rows, given.rows)
    with pytest.raises(InvalidRequest, match="members: the user of embedding 1 is True: give text"):
        of_arrays("members", ["a", True], [[1.0], [2.0]])
    with pytest.raises(InvalidRequest, match="members: users or embeddings are no array: "):
        of_arrays("members", ["a", "b"], [[1.0], [2.0, 3.0]])


def test_values_that_are_no_numbers_are_refused() -> None:
    names, rows = drawn(60, 1.0, 1)
    broken = rows.copy()
    broken[7, 0] = np.nan
    with pytest.raises(InvalidRequest, match="embedding 7 is not finite"):
        audit_membership(None, (names, broken), drawn(60, 1.0, 2))
    with pytest.raises(InvalidRequest, match="16 values, those of non_members 8"):
        audit_membership(None, (names, rows), (drawn(60, 1.0, 2)[0], rows[:, :8]))


@pytest.mark.parametrize(
    "users", [[b"a", b"b"], [1.5, 2.5], [True, False], ["a", ""], ["a", "  "], [None, "a"]]
)
def test_users_that_could_be_taken_for_others_or_nobody_are_refused(users: list[object]) -> None:
    _, rows = drawn(2, 1.0, 1, samples=30)
    kind = object if None in users else None
    names = np.repeat(np.array(users, kind), 30)
    with pytest.raises(InvalidRequest, match=r"members: the user of embedding (0|30) is .*: give text"):
        audit_membership(None, (names, rows), drawn(60, 1.0, 2))


def test_users_by_number_are_the_same_as_by_text() -> None:
    rows = drawn(60, 1.0, 1, samples=2)[1]
    numbers = np.repeat(np.arange(60), 2)
    with pytest.raises(InvalidRequest, match=r"user '0' is a member and a non-member \(60 users are\)"):
        audit_membership(None, (numbers, rows), (numbers.astype(str).astype(object), rows))


def test_embeddings_without_values_or_a_finite_length_are_refused() -> None:
    names, rows = drawn(60, 1.0, 1)
    with pytest.raises(InvalidRequest, match=r"embeddings \[300, 0\] have no values"):
        audit_membership(None, (names, rows[:, :0]), drawn(60, 1.0, 2))
    with pytest.raises(InvalidRequest, match="embedding 0 is not finite, or its length is not"):
        audit_membership(None, (names, rows * 1e200), drawn(60, 1.0, 2))


def test_a_stranger_is_nobody_who_is_audited() -> None:
    ours, others = drawn(60, 1.0, 1), drawn(60, 1.0, 2)
    with pytest.raises(InvalidRequest, match="user '1-0' is a member and a stranger"):
        audit_membership(None, ours, others, strangers=ours)
    with pytest.raises(InvalidRequest, match="user '2-0' is a non-member and a stranger"):
        audit_membership(None, ours, others, strangers=others)


@pytest.mark.parametrize(
    "given",
    [
        {"user_column": "who"},
        {"text_columns": ["title"]},
        {"separator": "; "},
        {"file_format": "csv"},
        {"max_row_length": 9},
        {"device": "cuda"},
        {"device_id": 1},
        {"side": "item"},
    ],
)
def test_what_says_how_texts_are_read_or_encoded_is_refused_beside_embeddings(given: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidRequest, match=rf"{next(iter(given))} is .*the files are embeddings; leave it out"
    ):
        audit_membership(None, drawn(60, 1.0, 1), drawn(60, 1.0, 2), **given)


def test_more_folds_than_users_of_a_side_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="folds is 61, and members has 60 users"):
        audit_membership(None, drawn(60, 1.0, 1), drawn(70, 1.0, 2), folds=61)


def test_a_file_that_is_no_npz_is_refused_without_advice_to_unpickle_it(tmp_path: Path) -> None:
    text, one = tmp_path / "a.csv", tmp_path / "a.npy"
    text.write_text("user,text\na,b\n")
    np.save(one, np.zeros(3))
    with pytest.raises(
        InvalidRequest, match=r"a\.csv cannot be read as \.npz .*: without --bundle"
    ) as refused:
        audit_membership(None, text, text)
    assert "unsafely" not in str(refused.value)
    with pytest.raises(InvalidRequest, match=r"a\.npy is one array: without --bundle"):
        audit_membership(None, one, one)


def test_sides_that_differ_in_the_number_of_embeddings_are_told() -> None:
    report = audit_membership(None, drawn(60, 1.0, 1, samples=3), drawn(60, 1.0, 2, samples=6), **FAST)
    assert any(
        note.startswith("the two sides differ in how many embeddings a user has") for note in report.notes
    )


def test_users_left_out_are_told(leaking: MembershipReport) -> None:
    assert not any("left out" in note for note in leaking.notes)
    names, rows = drawn(61, 1.0, 1, samples=2)
    report = audit_membership(None, (names[:-1], rows[:-1]), drawn(60, 1.0, 2), **FAST)
    assert report.notes[-1].startswith("1 user of members with fewer than 2 texts is left out: ")


def test_a_device_beside_an_encoder_that_is_loaded_is_refused(encoder_bundle: Bundle) -> None:
    with (
        ItemEncoder.load(encoder_bundle) as encoder,
        pytest.raises(InvalidRequest, match="device is 'cuda': the encoder is loaded already; leave it out"),
    ):
        audit_membership(encoder, "members.csv", "others.csv", device="cuda")
