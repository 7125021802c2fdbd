"""Verdict on new rows: whether they are collapsed."""

from rankport.exporters.vocabulary.collapse_limits import CollapseLimits
from rankport.exporters.vocabulary.diagnostics.diagnose import TableDiagnostics


def failures(table: TableDiagnostics, limits: CollapseLimits) -> list[str]:
    """Writes a sentence for each limit that the table misses."""
    if table.is_empty:
        return [f"{table.table}: all {table.zeros} new rows are zeros: they were never set, or not saved"]
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
