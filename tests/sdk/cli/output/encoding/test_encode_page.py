"""The page of an encode job, and how its pace is told."""

from pathlib import Path

import pytest

from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.history import JobHistory
from rankport.runtime.store.opening import open_store
from rankport.sdk.cli.output.encoding.encode import describe_pace
from rankport.sdk.cli.output.encoding.encode_page import write_page
from rankport.sdk.cli.output.run_facts import RunFacts
from support.hash_encoder import HashEncoder
from support.jobs.encode_jobs import SMALL, rows_of


def page_of(folder: Path, failure: str, *texts: str) -> str:
    history = JobHistory()
    with open_store(folder / "store", create=True) as store:
        encoder = HashEncoder()
        report = run_encode_job(
            history.watched(encoder),
            namespace_of(store, encoder),
            rows_of(*texts),
            SMALL,
            on_progress=history.take_progress,
            on_bad_row=history.take_bad_row,
        )
    file = folder / "deep" / "page.html"
    write_page(file, report, history, report.encoded, failure, RunFacts.of_this())
    return file.read_text()


def test_page_has_verdict_figures_plots_and_bad_rows_and_fetches_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path, "", "aaaa", "bb", "malformed <b>", "cccccccc")
    assert "<div class='verdict'>Done: 3 items in the store.</div>" in page
    assert "<dt>rows read<dd>4" in page
    assert "<dt>encoded<dd>3 in " in page
    for title in ("Lengths", "Rate over time", "Rows so far"):
        assert f"<b>{title}</b>" in page
    assert "<tr><td>3<td>id3<td>" in page
    assert "://" not in page  # the command line of the tests is on it
    assert "<script" not in page


def test_page_of_a_failed_job_that_read_nothing_says_so_and_draws_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path, "none of 0 rows could be used")
    assert "<div class='verdict bad'>Failed: none of 0 rows could be used</div>" in page
    assert "Bad rows by reason" not in page
    assert "<b>Lengths</b>" not in page


@pytest.mark.parametrize(
    ("total", "told"),
    [(1000, "20.0 rows/s, 0:00:45 left"), (None, "20.0 rows/s"), (50, "20.0 rows/s, 0:00:00 left")],
)
def test_pace_is_rows_a_second_and_the_time_left_where_the_number_of_rows_is_known(
    total: int | None, told: str
) -> None:
    assert describe_pace(100, total, 5.0) == told
