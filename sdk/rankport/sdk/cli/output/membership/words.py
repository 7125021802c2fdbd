"""Words for what a membership audit measured."""

from rankport.protos.wording import counted
from rankport.sdk.membership.report import Feature, MembershipReport, Side
from rankport.sdk.membership.roc import RATES, Interval, RocFigures

HEADINGS = (
    "",
    "AUC",
    *(f"TPR at {rate:.1%} FPR" for rate in RATES),
    "AUC above control",
    "p of shuffled",
)


def attack_rows(report: MembershipReport) -> list[tuple[str, ...]]:
    """Lists each attack with its figures, the control last."""
    rows = [
        (
            attack.name,
            *_figures(attack.figures),
            f"{attack.above_control.value:+.3f} ({attack.above_control.low:+.3f} to {attack.above_control.high:+.3f})",
            f"{attack.p_value:.3f}",
        )
        for attack in report.attacks
    ]
    return [*rows, ("control: the texts alone", *_figures(report.control), "", "")]


def null_rows(report: MembershipReport) -> list[tuple[str, ...]]:
    """Lists what the attacks reach where membership is shuffled."""
    return [
        (
            attack.name,
            f"{attack.null.mean:.3f}",
            f"{attack.null.highest:.3f}",
            f"{attack.null.holding} of {len(attack.null.aucs)}",
            f"{attack.null.factor:.2f}",
        )
        for attack in report.attacks
    ]


def telling_features(report: MembershipReport) -> list[Feature]:
    """Sorts the features, those that tell members best first."""
    return sorted(report.features, key=lambda feature: -abs(feature.auc.value - 0.5))


def facts(report: MembershipReport) -> dict[str, str]:
    """Lists what was looked at, for people."""
    subject, config = report.subject, report.config
    about = "embeddings, of no bundle"
    if subject is not None:
        of_side = f", {subject.side} side" if subject.side else ""
        about = f"{subject.name} {subject.version}{of_side}, {subject.fingerprint}"
    limit = "none"
    if config.max_auc is not None:
        limit = f"AUC {config.max_auc:g}, of the {'upper' if config.strict else 'lower'} end of the interval"
    return {
        "encoder": about,
        "members": _side(report.members),
        "non-members": _side(report.non_members),
        "references": f"{report.references:,} samples, {config.distance} distance",
        "cross-fitting": f"{config.folds} folds by user, {config.repeats} splits, {config.resamples:,} resamples",
        "limit": limit,
        "seed": str(config.seed),
    }


def _side(side: Side) -> str:
    return f"{counted(side.users, 'user', ',')}, {counted(side.samples, 'sample', ',')} of {side.source}"


def _figures(figures: RocFigures) -> tuple[str, ...]:
    return (str(figures.auc), *(_resolved(figures.true_at[rate]) for rate in RATES))


def _resolved(found: Interval | None) -> str:
    return "not resolved" if found is None else str(found)
