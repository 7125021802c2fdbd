"""Rows for encode jobs, and what such a job stored and counted."""

from rankport.runtime.jobs.config import EncodeJobConfig
from rankport.runtime.jobs.encode_report import EncodeReport
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.store.contract import TokenNamespace

SMALL = EncodeJobConfig(batch_size=4, window_batches=2)


def rows_of(*texts: str) -> list[ItemRow | BadRow]:
    """Makes rows of `texts`, with the ids "id1", "id2" and so on."""
    return [ItemRow(line, f"id{line}", text) for line, text in enumerate(texts, 1)]


def stored(namespace: TokenNamespace) -> dict[str, bytes]:
    """Reads the tokens of every key."""
    keys = sorted(namespace.keys())
    return {
        key: tokens.tobytes()
        for key, tokens in zip(keys, namespace.get_many(keys), strict=True)
        if tokens is not None
    }


def counts(report: EncodeReport) -> tuple[int, int, int, int, int]:
    """Lists the rows read, encoded, unchanged, truncated and bad."""
    return report.rows_read, report.encoded, report.unchanged, report.truncated, report.bad_rows
