"""Rankers of sets as the table of kinds lists them."""

from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.set_ranker.options import SetRankerOptions
from rankport.runtime.kinds.set_ranker import kind

SET_RANKER = ExportKind(
    kind.SET_RANKER,
    "reads a history once and ranks all candidates together (LiGR, HSTU)",
    SetRankerOptions,
    "rankport.exporters.kinds.set_ranker.work",
)
"""The row of the table."""
