"""Words for what a load test measured."""

from collections.abc import Sequence

from rankport.sdk.loadtest.config import LoadConfig
from rankport.sdk.loadtest.result import LoadResult


def time_in_words(seconds: float) -> str:
    """Writes a time in milliseconds, or seconds from ten on."""
    if seconds == float("inf"):
        return "–"
    return (
        f"{seconds:.1f} s"
        if seconds >= 10
        else f"{seconds * 1000:.3g} ms"
        if seconds < 0.9995  # from there on three digits would be 1e+03
        else f"{seconds * 1000:.0f} ms"
    )


def rate_in_words(rate: float) -> str:
    """Writes a rate."""
    return f"{rate:,.4g}/s" if rate < 1000 else f"{rate:,.0f}/s"


def statuses_in_words(result: LoadResult) -> str:
    """Counts requests by how they ended."""
    return ", ".join(f"{count:,} {status}" for status, count in result.by_status.items())


def rows_in_words(runs: Sequence[LoadResult]) -> list[tuple[str, LoadResult]]:
    """Names the rows of a table of rates: each, and below it the classes of its requests, where there are several."""
    rows = []
    for run in runs:
        parts = [run.of_class(name) for name in run.classes]
        rows.append((rate_in_words(run.rate), run))
        rows += [
            (f"{rate_in_words(part.rate)} {name}", part)
            for name, part in zip(run.classes, parts, strict=True)
        ]
    return rows


def classes_in_words(config: LoadConfig) -> str:
    """Says which classes the requests have."""
    if not config.background_share:
        return config.priority
    return f"{config.background_share:.4g} of them in the background, the others {config.priority}"


def reasons_in_words(result: LoadResult) -> list[str]:
    """Lists what the first request of each status but OK was told."""
    return [f"{status}, for one: {reason}" for status, reason in result.reasons.items() if reason]


def warnings(result: LoadResult) -> list[str]:
    """Lists what keeps the figures from being those of the server, or of its work."""
    told = (lateness(result), lacking(result))
    return [each for each in told if each is not None]


def lacking(result: LoadResult) -> str | None:
    """Warns where items had no score, which is less work."""
    if not result.unscored:
        return None
    share = result.unscored / (result.items + result.unscored)
    return (
        f"{share:.2%} of the items in the answers have no score (their keys are not stored, they failed, or the server "
        "left them out under pressure): the latencies are of less work"
    )


def lateness(result: LoadResult) -> str | None:
    """Warns where this machine, not the server, may have been slow."""
    late_s = result.late_p99_s
    if late_s < 0.005 or late_s < 0.1 * result.percentile_s(50):
        return None
    return (
        f"requests were sent up to {time_in_words(late_s)} late (p99): this machine is busy, and the latencies have it "
        "in them; load from another one"
    )
