"""History of a job, noted beside it in bounded memory."""

import pytest

from rankport.runtime.jobs.encode_job import run_encode_job
from rankport.runtime.jobs.encode_report import EncodeProgress
from rankport.runtime.jobs.history import JobHistory
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.store.contract import TokenNamespace
from support.hash_encoder import HashEncoder
from support.jobs.encode_jobs import SMALL, rows_of, stored


def test_watched_job_stores_the_same_and_its_lengths_and_padding_are_those_of_its_batches(
    namespace: TokenNamespace, encoder: HashEncoder
) -> None:
    history = JobHistory()
    rows = rows_of("a", "bb", "ccc", "dddd", "e" * 10, "f" * 16, "g" * 17, "h" * 17)
    report = run_encode_job(
        history.watched(encoder), namespace, rows, SMALL, on_progress=history.take_progress
    )
    assert report.encoded == len(stored(namespace)) == 8
    assert encoder.calls == [["a", "bb", "ccc", "dddd"], ["e" * 10, "f" * 16, "g" * 17, "h" * 17]]
    assert dict(history.lengths) == {0: 1, 1: 1, 2: 2, 4: 2, 5: 2}
    assert history.batches == 2
    assert history.padding_share == pytest.approx(1 - (10 + 60) / (4 * 4 + 4 * 17))
    assert 0 < history.encode_s <= report.seconds
    assert (history.moments[0].rows, history.moments[-1].rows) == (0, 8)


def test_text_that_fails_is_in_no_length(namespace: TokenNamespace, encoder: HashEncoder) -> None:
    history = JobHistory()
    rows = rows_of("good", "malformed", "fine")
    run_encode_job(history.watched(encoder), namespace, rows, SMALL, on_bad_row=history.take_bad_row)
    assert history.chars == len("good") + len("fine")
    assert history.reasons.total() == 1


def test_reasons_are_counted_without_their_values_and_at_most_a_hundred_kinds() -> None:
    history = JobHistory()
    for line in range(3):
        history.take_bad_row(BadRow(line, f"id 'it{line}' came earlier in the input", f"it{line}"))
        history.take_bad_row(BadRow(line, f"{line} fields where the header has 2"))
    assert history.reasons == {"id … came earlier in the input": 3, "… fields where the header has …": 3}
    for kind in range(200):
        history.take_bad_row(BadRow(1, "kind " + "x" * kind))
    assert len(history.reasons) == 101
    assert history.reasons["other reasons"] == 102


def test_moments_stay_bounded_and_end_with_the_last() -> None:
    history = JobHistory(interval_s=0.0)
    for rows in range(5000):
        history.take_progress(EncodeProgress(rows, 0, 0))
    moments = history.moments
    assert len(moments) <= 1001
    assert moments[-1].rows == 4999
    assert [moment.rows for moment in moments] == sorted({moment.rows for moment in moments} | {0})
