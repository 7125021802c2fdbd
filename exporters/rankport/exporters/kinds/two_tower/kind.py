"""Two towers as the table of kinds lists them."""

from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.two_tower.options import TwoTowerOptions
from rankport.runtime.kinds.two_tower import kind

TWO_TOWER = ExportKind(
    kind.TWO_TOWER,
    "represents query and item apart, and scores the representations",
    TwoTowerOptions,
    "rankport.exporters.kinds.two_tower.work",
)
"""The row of the table."""
