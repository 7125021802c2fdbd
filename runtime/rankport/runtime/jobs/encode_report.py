"""Progress and report of a job that encodes rows, to a store or to a dataset."""

from dataclasses import dataclass

from rankport.runtime.jobs.rows.records import BadRow


@dataclass(frozen=True, slots=True)
class EncodeProgress:
    """Rows so far."""

    encoded: int
    unchanged: int
    bad_rows: int
    deleted: int = 0

    @property
    def rows(self) -> int:
        """Rows that are done with."""
        return self.encoded + self.unchanged + self.bad_rows + self.deleted


@dataclass(frozen=True, slots=True)
class EncodeReport:
    """Report of a job. Every row read is encoded, unchanged, deleted or bad."""

    rows_read: int
    encoded: int
    unchanged: int
    truncated: int  # of encoded and unchanged: the tokens are those of a cut text
    bad_rows: int
    first_bad_rows: tuple[BadRow, ...]
    pruned: int
    prune_refused: str  # why nothing was pruned although it was asked for and items are gone, else ""
    seconds: float
    items_per_s: float  # encoded
    deleted: int = 0  # rows that said so, whether their items were stored or not

    @property
    def usable_rows(self) -> int:
        """Rows that are not bad."""
        return self.encoded + self.unchanged + self.deleted

    @property
    def failure(self) -> str:
        """Reason for which the job counts as failed although it came to its end, else ""."""
        if not self.usable_rows:
            return f"none of {self.rows_read} rows could be used"
        return f"not pruned: {self.prune_refused}" if self.prune_refused else ""
