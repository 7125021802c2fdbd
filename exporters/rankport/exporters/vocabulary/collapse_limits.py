"""Limits beyond which new rows count as collapsed. Imports little, so that the command line can show them.

The defaults lie between what is measured of mean, random and grounded rows: docs/vocabulary.md has the figures.
"""

from dataclasses import dataclass, field

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag


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
