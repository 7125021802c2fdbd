"""Rankers of lists as the table of kinds lists them."""

from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.list_ranker.options import ListRankerOptions
from rankport.runtime.kinds.list_ranker import kind

LIST_RANKER = ExportKind(
    kind.LIST_RANKER,
    "reads all items of a list in one prompt and scores them together (jina-reranker-v3, E2Rank)",
    ListRankerOptions,
    "rankport.exporters.kinds.list_ranker.work",
)
"""The row of the table."""
