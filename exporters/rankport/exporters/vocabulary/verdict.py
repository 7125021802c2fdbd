"""Verdict on new rows, whether they are collapsed: limits and what fails them. Imports little, for the CLI shows them.

The defaults lie between what is measured of mean, random and grounded rows: docs/vocabulary.md has the figures.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag

if TYPE_CHECKING:
    from rankport.exporters.vocabulary.diagnostics import TableDiagnostics


@dataclass(frozen=True, slots=True)
class CollapseLimits:
    """Limits that the new rows of every table must keep."""

    min_effective_rank: float = field(
        default=0.5, metadata=flag("Least effective rank, as a share of that of as many pretrained rows.")
    )
    max_mean_cosine: float = field(default=0.5, metadata=flag("Largest mean cosine between two new rows."))
    min_rsa: float = field(
        default=0.05,
        metadata=flag("Least Spearman RSA with --codebook, within levels where names tell them."),
    )
    max_duplicates: int = field(default=0, metadata=flag("New rows that may equal another new row."))

    def __post_init__(self) -> None:
        for name, low in (
            ("min_effective_rank", 0.0),
            ("max_mean_cosine", -1.0),
            ("min_rsa", -1.0),
            ("max_duplicates", 0.0),
        ):
            value = getattr(self, name)
            if not low <= value < float("inf"):
                raise InvalidRequest(
                    f"--{name.replace('_', '-')} is {value}: must be a number from {low:g} on"
                )


def failures(table: "TableDiagnostics", limits: CollapseLimits) -> list[str]:
    """Writes a sentence for each limit that the table misses."""
    missed = []
    if table.effective_rank_ratio < limits.min_effective_rank:
        missed.append(
            f"{table.table}: effective rank {table.new_spectrum.effective_rank:.1f} of the new rows is "
            f"{table.effective_rank_ratio:.3f} of the pretrained rows' {table.old_spectrum.effective_rank:.1f}, "
            f"under {limits.min_effective_rank:g}"
        )
    if table.new_new.mean > limits.max_mean_cosine:
        missed.append(
            f"{table.table}: mean cosine {table.new_new.mean:.3f} between new rows is over {limits.max_mean_cosine:g}"
        )
    if table.rsa is not None:
        judged = table.rsa.within_levels or table.rsa.all_pairs
        if judged.spearman < limits.min_rsa:
            missed.append(
                f"{table.table}: RSA {judged.spearman:.3f} with the codebook is under {limits.min_rsa:g}"
            )
    if table.duplicates > limits.max_duplicates:
        missed.append(
            f"{table.table}: {table.duplicates} new rows equal another, over {limits.max_duplicates}"
        )
    return missed
