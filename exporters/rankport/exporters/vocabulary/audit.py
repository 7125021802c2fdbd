"""`audit tokens`: the new rows of every table of a checkpoint, diagnosed and judged.

Owns the order of the steps. Reads the tables where they lie, builds no model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankport.exporters.vocabulary.codebook import read_codebook
from rankport.exporters.vocabulary.collapse_limits import CollapseLimits
from rankport.exporters.vocabulary.diagnostics.diagnose import Sampling, TableDiagnostics, diagnose
from rankport.exporters.vocabulary.new_rows import NewRows, resolve_new_rows, token_names
from rankport.exporters.vocabulary.stored_tables import open_tables
from rankport.exporters.vocabulary.verdict import failures


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Figures of an audit, and what they mean."""

    checkpoint: Path
    rows: NewRows
    tied: bool
    tables: tuple[TableDiagnostics, ...]  # input, then output if it is its own
    failures: tuple[str, ...]
    old_names: dict[int, str]  # tokens of the neighbours shown

    @property
    def passed(self) -> bool:
        """True where no limit is missed."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """Gives the figures for machines."""
        return {
            "checkpoint": str(self.checkpoint),
            "first_new": self.rows.first,
            "new_tokens": self.rows.count,
            "rows": self.rows.total,
            "tied": self.tied,
            "passed": self.passed,
            "failures": list(self.failures),
            "tables": [table.figures() for table in self.tables],
        }


def audit_tokens(
    checkpoint: Path,
    *,
    new_tokens: int | None = None,
    first_new: int | None = None,
    codebook: Path | None = None,
    limits: CollapseLimits | None = None,
    sampling: Sampling | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> AuditReport:
    """Diagnoses the new rows of `checkpoint`; `new_rows.resolve_new_rows` says which they are.

    Raises CheckpointError for a folder without a table, InvalidRequest for rows or a codebook that do not fit.
    """
    limits = limits or CollapseLimits()
    stored = open_tables(checkpoint)
    rows = resolve_new_rows(checkpoint, stored.input.shape[0], new_tokens=new_tokens, first_new=first_new)
    vectors = None if codebook is None else read_codebook(codebook, rows.count)
    tables = []
    for name, table in ((stored.input_name, stored.input), (stored.output_name, stored.output)):
        if name is not None and table is not None:
            on_progress(f"measuring {name}")
            tables.append(diagnose(name, table, rows, vectors, sampling))
    shown = {row for table in tables for near in table.neighbours for row in near.old_rows}
    names = token_names(checkpoint)
    return AuditReport(
        checkpoint=checkpoint,
        rows=rows,
        tied=stored.tied,
        tables=tuple(tables),
        failures=tuple(failure for table in tables for failure in failures(table, limits)),
        old_names={row: names.get(row, str(row)) for row in shown},
    )
