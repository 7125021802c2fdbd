"""The encode job over bad rows, failing encoders and input that breaks off: what it costs, and what ends the job."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import (
    BackendError,
    InvalidRequest,
    LimitExceeded,
    PairingError,
    StoreError,
    Unavailable,
)
from rankport.protos.types import Truncation
from rankport.runtime.jobs.encode_job import EncodeJobConfig, namespace_of, run_encode_job
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.lmdb_store.store import LmdbStore
from support.hash_encoder import MAX_CHARS, HashEncoder
from support.jobs.encode_jobs import SMALL, counts, rows_of, stored


def test_long_texts_are_bad_rows_where_truncation_is_an_error_even_if_stored_cut(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    rows = rows_of("short", "z" * 500)
    strict = EncodeJobConfig(truncation="error")
    run_encode_job(encoder, namespace, rows)
    report = run_encode_job(encoder, namespace, rows, strict)
    assert counts(report) == (2, 0, 1, 0, 1)
    [bad] = report.first_bad_rows
    assert (bad.line, bad.id) == (2, "id2")
    assert bad.reason == "has 500 characters, the limit is 40"  # no class of Python, no index of a retry


@pytest.mark.parametrize("word", ["malformed", "crash", "infinite"])
def test_row_that_cannot_be_encoded_costs_no_other_row(
    encoder: HashEncoder, namespace: TokenNamespace, word: str
) -> None:
    rows = rows_of(*[f"text {number}" for number in range(10)], word, "last")
    report = run_encode_job(encoder, namespace, rows, EncodeJobConfig(batch_size=16))
    assert counts(report) == (12, 11, 0, 0, 1)
    assert [row.id for row in report.first_bad_rows] == ["id11"]
    assert sorted(stored(namespace)) == sorted(f"id{number}" for number in range(1, 13) if number != 11)


def test_bad_row_keeps_what_was_stored_for_its_id(encoder: HashEncoder, namespace: TokenNamespace) -> None:
    run_encode_job(encoder, namespace, rows_of("good"))
    before = stored(namespace)
    run_encode_job(encoder, namespace, rows_of("crash"))
    run_encode_job(encoder, namespace, [BadRow(1, "no text", "id1")])
    assert stored(namespace) == before


def test_encoder_that_fails_on_row_after_row_ends_the_job(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    rows = rows_of("good", *["crash"] * 100)
    with pytest.raises(BackendError, match=r"failed on 5 rows in a row.*the pass failed"):
        run_encode_job(encoder, namespace, rows, EncodeJobConfig(batch_size=1, max_failures_in_a_row=5))
    assert list(stored(namespace)) == ["id1"]


def test_failures_with_successes_between_do_not_end_the_job(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    rows = rows_of(*["good", "crash"] * 20)
    config = EncodeJobConfig(batch_size=1, window_batches=1, max_failures_in_a_row=2)
    assert counts(run_encode_job(encoder, namespace, rows, config)) == (40, 20, 0, 0, 20)


class StoppedEncoder(HashEncoder):
    """An encoder whose server goes away after the first call."""

    def encode(self, texts: Sequence[str], *, truncation: Truncation = "error") -> NDArray[np.float16]:
        if self.calls:
            raise Unavailable("the server is gone")
        return super().encode(texts, truncation=truncation)


def test_error_that_no_row_is_to_blame_for_ends_the_job_and_keeps_what_is_stored(
    namespace: TokenNamespace,
) -> None:
    rows = rows_of(*[f"{number}" for number in range(9)])
    with pytest.raises(Unavailable):
        run_encode_job(StoppedEncoder(), namespace, rows, SMALL)
    assert len(namespace) == 4


class ShortEncoder(HashEncoder):
    """An encoder that forgets a text."""

    def encode(self, texts: Sequence[str], *, truncation: Truncation = "error") -> NDArray[np.float16]:
        return super().encode(texts[1:], truncation=truncation)


def test_encoder_that_breaks_its_contract_ends_the_job(namespace: TokenNamespace) -> None:
    with pytest.raises(BackendError, match=r"array \[1, 2, 8\] for 2 texts"):
        run_encode_job(ShortEncoder(), namespace, rows_of("a", "b"))
    assert len(namespace) == 0


def test_first_row_of_an_id_counts_and_the_others_are_bad(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    rows: list[ItemRow | BadRow] = [
        BadRow(1, "no text", "same"),
        ItemRow(2, "same", "first"),
        *rows_of(*[f"{number}" for number in range(20)]),
        ItemRow(23, "same", "second"),
    ]
    for _ in range(2):
        report = run_encode_job(encoder, namespace, rows, SMALL)
        assert report.bad_rows == 2
        assert report.first_bad_rows[1] == BadRow(23, "id 'same' came earlier in the input", "same")
        assert stored(namespace)["same"] == encoder.encode(["first"]).tobytes()
    assert report.unchanged == 21


def test_bad_rows_are_all_told_and_counted_and_the_first_are_kept(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    rows = [BadRow(line, "broken") for line in range(1, 8)]
    told: list[BadRow] = []
    config = EncodeJobConfig(max_bad_rows_kept=2)
    report = run_encode_job(encoder, namespace, rows, config, on_bad_row=told.append)
    assert counts(report) == (7, 0, 0, 0, 7)
    assert told == rows
    assert report.first_bad_rows == tuple(rows[:2])
    assert report.items_per_s == 0


def test_input_that_breaks_off_keeps_whole_batches_and_prunes_nothing(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    run_encode_job(encoder, namespace, [ItemRow(1, "old", "old")])

    def broken() -> Iterator[ItemRow | BadRow]:
        yield from rows_of(*[f"{number}" for number in range(8)])
        raise InvalidRequest("breaks off")

    with pytest.raises(InvalidRequest, match="breaks off"):
        run_encode_job(
            encoder, namespace, broken(), EncodeJobConfig(batch_size=4, window_batches=1, prune=True)
        )
    assert len(namespace) == 9


def test_another_encoders_namespace_is_refused_with_both_fingerprints(namespace: TokenNamespace) -> None:
    with pytest.raises(PairingError, match=r"encoder other cannot write .* encoder hash-encoder"):
        run_encode_job(HashEncoder("other"), namespace, rows_of("a"))


class _TellingEncoder(HashEncoder):
    """Tells the places of all texts over its limit, as encoders in process do."""

    def encode(self, texts: Sequence[str], *, truncation: Truncation = "error") -> NDArray[np.float16]:
        try:
            return super().encode(texts, truncation=truncation)
        except LimitExceeded as error:
            error.places = tuple(place for place, text in enumerate(texts) if len(text) > MAX_CHARS)
            raise


def test_store_that_is_replaced_under_a_job_of_its_server_ends_the_job(
    encoder: HashEncoder, tmp_path: Path
) -> None:
    path, rows = tmp_path / "tokens", rows_of("one", "two", "three")
    for place in ("first", "second"):
        with LmdbStore.open(tmp_path / place, create=True) as store:
            namespace_of(store, encoder)
        (tmp_path / f"to-{place}").symlink_to(place)
    (tmp_path / "to-first").rename(path)

    def replacing() -> Iterator[ItemRow | BadRow]:
        yield from rows[:2]
        (tmp_path / "to-second").rename(path)  # in one step: another thread may just write
        yield rows[2]

    one = EncodeJobConfig(batch_size=1, window_batches=1)
    with LmdbStore.open(path, follow=True) as store:
        namespace = namespace_of(store, encoder)
        with pytest.raises(
            StoreError, match="another token store came into the place of the one that is filled"
        ):
            run_encode_job(encoder, namespace, replacing(), one)
        assert run_encode_job(encoder, namespace, rows, one).rows_read == 3
        assert sorted(stored(namespace)) == ["id1", "id2", "id3"]


def test_texts_over_the_limit_are_read_twice_whatever_their_number(namespace: TokenNamespace) -> None:
    texts = ["z" * (30 + number) for number in range(64)]
    plain, telling = HashEncoder(), _TellingEncoder()
    report = run_encode_job(telling, namespace, rows_of(*texts), EncodeJobConfig(batch_size=64))
    assert (report.encoded, report.truncated) == (64, 53)
    assert [len(call) for call in telling.calls] == [64, 11, 53]
    told = stored(namespace)
    run_encode_job(plain, namespace, rows_of(*(text + "!" for text in texts)))
    run_encode_job(plain, namespace, rows_of(*texts))
    assert stored(namespace) == told


def test_a_row_that_fails_among_long_ones_costs_no_other(namespace: TokenNamespace) -> None:
    texts = ["z" * 100, "crash", "fine", "crash" + "z" * 100]
    report = run_encode_job(_TellingEncoder(), namespace, rows_of(*texts), EncodeJobConfig(batch_size=4))
    assert counts(report) == (4, 2, 0, 1, 2)
    assert sorted(row.id or "" for row in report.first_bad_rows) == ["id2", "id4"]
