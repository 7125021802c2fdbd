"""Figures of an audit from embeddings: features, attacks, control, null. Owns which attacks there are."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.wording import be, counted
from rankport.sdk.membership.attacks import Learn, classifier, threshold
from rankport.sdk.membership.config import MembershipConfig
from rankport.sdk.membership.control import (
    control_features,
    control_names,
    length_ratio,
    shared_texts,
)
from rankport.sdk.membership.features import GROUPS, NAMES, References, user_features
from rankport.sdk.membership.null import Attempt, Null, Tell, null_rounds
from rankport.sdk.membership.report import Attack, Feature, MembershipReport, Side, Subject
from rankport.sdk.membership.roc import RATES, Interval, RocFigures, interval, roc_figures
from rankport.sdk.membership.samples import Floats, Samples

_MOST_LENGTH_RATIO = 1.25

ATTACKS: Mapping[str, tuple[Learn, tuple[str, ...]]] = {
    "the classifier": (classifier, NAMES),
    "the classifier of compactness": (classifier, GROUPS["compactness"]),
    "the classifier of distances to references": (classifier, GROUPS["reference"]),
    "the best threshold": (threshold, NAMES),
}


@dataclass(frozen=True, slots=True)
class Audited:
    """Users of both sides with their embeddings."""

    members: Samples
    non_members: Samples
    config: MembershipConfig
    subject: Subject | None = None
    truncated: int = 0

    @property
    def flags(self) -> NDArray[np.bool_]:
        """Tells members, the first users. [users]"""
        return np.arange(self.users) < len(self.members.users)

    @property
    def users(self) -> int:
        """Users of both sides."""
        return len(self.members.users) + len(self.non_members.users)

    def features(self, references: References) -> Floats:
        """Computes what the attacks look at. [users, len(NAMES)]"""
        assert self.members.rows is not None
        assert self.non_members.rows is not None
        return user_features(
            np.concatenate([self.members.rows, self.non_members.rows]),
            np.concatenate([self.members.owners, self.non_members.owners + len(self.members.users)]),
            self.users,
            references,
            self.config.distance,
        )


def measure(
    audited: Audited, references: References, random: np.random.Generator, on_progress: Tell
) -> MembershipReport:
    """Attacks, and measures what is reached."""
    config, flags = audited.config, audited.flags
    on_progress("measuring distances")
    features = audited.features(references)
    control = np.concatenate([control_features(side) for side in (audited.members, audited.non_members)])
    attempts = {name: Attempt(learn, _columns(features, names)) for name, (learn, names) in ATTACKS.items()}
    tried = [*attempts.values(), Attempt(classifier, control)]
    on_progress("attacking")
    scores = [attempt.scores(flags, config, random) for attempt in tried]
    on_progress("resampling users")
    figures, aucs = roc_figures([*scores, *features.T], flags, config.resamples, random)
    shuffled = null_rounds(tried, flags, config, random, on_progress)
    own = [found.widened(null.factor) for found, null in zip(figures, shuffled, strict=False)]
    base = own[-1]
    return MembershipReport(
        subject=audited.subject,
        members=Side.of(audited.members),
        non_members=Side.of(audited.non_members),
        references=len(references.rows),
        truncated=audited.truncated,
        config=config,
        attacks=tuple(
            Attack(
                name,
                found,
                _above(found, base, aucs[place] - aucs[len(ATTACKS)], shuffled[place]),
                shuffled[place],
            )
            for place, (name, found) in enumerate(zip(ATTACKS, own, strict=False))
        ),
        control=base,
        control_names=control_names(audited.members),
        features=_features(features, flags, figures[len(tried) :]),
        notes=_notes(audited, base),
    )


def _columns(features: Floats, names: tuple[str, ...]) -> Floats:
    return features[:, [NAMES.index(name) for name in names]]


def _above(found: RocFigures, base: RocFigures, gaps: Floats, null: Null) -> Interval:
    """Makes the interval of an attack's AUC less the control's."""
    return interval(found.auc.value - base.auc.value, gaps).widened(null.factor, least=-1.0)


def _features(features: Floats, flags: NDArray[np.bool_], figures: list[RocFigures]) -> tuple[Feature, ...]:
    return tuple(
        Feature(name, column[flags], column[~flags], found.auc)
        for name, column, found in zip(NAMES, features.T, figures, strict=True)
    )


def _notes(audited: Audited, control: RocFigures) -> tuple[str, ...]:
    """Says what a reader must know to read the figures right."""
    members, others = audited.members, audited.non_members
    notes = []
    for rate in RATES:
        if control.true_at[rate] is None:
            notes.append(
                f"TPR at {rate:.1%} FPR is not given: {len(others.users)} non-members resolve steps of "
                f"{1 / len(others.users):.2%}, and {round(1 / rate):,} are needed"
            )
    if control.auc.low > 0.5:
        looked_at = "their texts" if members.texts is not None else "how many embeddings a user has"
        notes.append(
            f"the two sides differ in {looked_at} alone: AUC {control.auc} without the encoder, so the attacks' AUC is "
            "not all leakage; draw members and non-members alike"
        )
    ratio = length_ratio(members, others)
    if ratio is not None and not 1 / _MOST_LENGTH_RATIO <= ratio <= _MOST_LENGTH_RATIO:
        notes.append(f"the median length of members' texts is {ratio:.2f} times that of non-members'")
    for side in (members, others):
        if side.left_out:
            notes.append(
                f"{counted(side.left_out, 'user')} of {side.source} with fewer than "
                f"{counted(audited.config.min_texts, 'text')} {be(side.left_out)} left "
                "out: one text has no distance to another of its user"
            )
        if side.repeats:
            notes.append(
                f"{counted(side.repeats, 'text')} of {side.source} {be(side.repeats)} left out: the same user has "
                f"{'it' if side.repeats == 1 else 'them'} once more"
            )
    shared = shared_texts(members, others)
    if shared:
        notes.append(
            f"{counted(shared, 'text')} of non-members {be(shared)} among those of members too: what was trained on of "
            "members was trained on of them"
        )
    if audited.truncated:
        notes.append(
            f"{counted(audited.truncated, 'text')} {be(audited.truncated)} longer than the encoder's limit: "
            "what is behind it is left out"
        )
    return tuple(notes)
