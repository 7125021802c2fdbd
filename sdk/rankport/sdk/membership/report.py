"""`MembershipReport`: what an audit found, whether a release may pass, and why not."""

from dataclasses import asdict, dataclass

import numpy as np

from rankport.sdk.membership.config import MembershipConfig
from rankport.sdk.membership.null import Null
from rankport.sdk.membership.roc import RATES, Interval, RocFigures
from rankport.sdk.membership.samples import Floats, Samples


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack and what it reaches."""

    name: str
    figures: RocFigures
    above_control: Interval  # its AUC less that of the control, on the same resamples
    null: Null

    @property
    def p_value(self) -> float:
        """Share of rounds of shuffled membership, and this one, that reach its AUC."""
        return self.null.p_value(self.figures.auc.value)

    def as_json(self) -> dict[str, object]:
        """Gives it for machines."""
        return {
            "name": self.name,
            **_figures_json(self.figures),
            "above_control": self.above_control.as_json(),
            "p_value": self.p_value,
            "null": {
                "rounds": len(self.null.aucs),
                "mean_auc": self.null.mean,
                "highest_auc": self.null.highest,
                "intervals_that_hold_half": self.null.holding,
                "interval_widened_by": self.null.factor,
            },
        }


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature by itself."""

    name: str
    members: Floats  # [members]
    others: Floats  # [non-members]
    auc: Interval  # of "a member has more"; below .5: less


@dataclass(frozen=True, slots=True)
class Side:
    """Users of one side, as they were looked at."""

    source: str
    users: int
    samples: int
    left_out: int  # users with too few texts
    repeats: int  # texts that their user has once more, left out

    @classmethod
    def of(cls, samples: Samples) -> "Side":
        """Counts."""
        users, left_out = len(samples.users), samples.left_out
        return cls(samples.source, users, len(samples.owners), left_out, samples.repeats)


@dataclass(frozen=True, slots=True)
class Subject:
    """Encoder that is audited; without a bundle its embeddings alone are known."""

    name: str
    version: str
    fingerprint: str
    side: str | None  # of two towers


@dataclass(frozen=True, slots=True)
class MembershipReport:
    """Figures of an audit, and what they mean."""

    subject: Subject | None
    members: Side
    non_members: Side
    references: int
    truncated: int  # texts that were cut to the encoder's limit
    config: MembershipConfig
    attacks: tuple[Attack, ...]
    control: RocFigures
    control_names: tuple[str, ...]
    features: tuple[Feature, ...]
    notes: tuple[str, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """Says which attacks are above the limit, if there is one."""
        limit = self.config.max_auc
        if limit is None:
            return ()
        found = []
        for attack in self.attacks:
            auc = attack.figures.auc
            if (auc.high if self.config.strict else auc.low) > limit:
                end = "upper" if self.config.strict else "lower"
                found.append(f"AUC {auc} of {attack.name}: the {end} end is above {limit:g}")
        return tuple(found)

    @property
    def passed(self) -> bool:
        """True where no attack is above the limit."""
        return not self.failures

    @property
    def strongest(self) -> Attack:
        """Attack with the highest AUC."""
        return max(self.attacks, key=lambda attack: attack.figures.auc.value)

    @property
    def verdict(self) -> str:
        """Says in a sentence what was found."""
        attack = self.strongest
        auc = attack.figures.auc
        if auc.low > 0.5:
            return f"Members are told from non-members: AUC {auc} by {attack.name}."
        return f"No attack tells members from non-members: the best, {attack.name}, has AUC {auc}."

    def as_json(self) -> dict[str, object]:
        """Gives the figures for machines."""
        return {
            "subject": None if self.subject is None else asdict(self.subject),
            "members": asdict(self.members),
            "non_members": asdict(self.non_members),
            "references": self.references,
            "truncated_texts": self.truncated,
            "config": asdict(self.config),
            "passed": self.passed,
            "failures": list(self.failures),
            "notes": list(self.notes),
            "attacks": [attack.as_json() for attack in self.attacks],
            "control": {"looks_at": list(self.control_names), **_figures_json(self.control)},
            "features": [
                {
                    "name": feature.name,
                    "auc": feature.auc.as_json(),
                    "median_members": _median(feature.members),
                    "median_non_members": _median(feature.others),
                }
                for feature in self.features
            ],
        }


def _figures_json(figures: RocFigures) -> dict[str, object]:
    true_at = {
        f"tpr_at_fpr_{rate:g}": None if (found := figures.true_at[rate]) is None else found.as_json()
        for rate in RATES
    }
    return {"auc": figures.auc.as_json(), **true_at}


def _median(values: Floats) -> float:
    return float(np.median(values))
