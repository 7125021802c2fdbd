import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, InvalidRequest, PairingError, StoreError, Unavailable
from rankport.protos.types import Truncation
from rankport.runtime.jobs.encode_job import (
    EncodeJobConfig,
    EncodeProgress,
    EncodeReport,
    content_hash,
    namespace_of,
    run_encode_job,
)
from rankport.runtime.jobs.items_file import BadRow, ItemRow
from rankport.runtime.store.store import TokenEntry, TokenNamespace, TokenSpec, TokenStore
from support.effort import scale
from support.hash_encoder import MAX_CHARS, HashEncoder

SMALL = EncodeJobConfig(batch_size=4, window_batches=2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    with TokenStore.open(tmp_path / "store", create=True) as store:
        yield store


@pytest.fixture
def encoder() -> HashEncoder:
    return HashEncoder()


@pytest.fixture
def namespace(store: TokenStore, encoder: HashEncoder) -> TokenNamespace:
    return namespace_of(store, encoder)


def rows_of(*texts: str) -> list[ItemRow | BadRow]:
    return [ItemRow(line, f"id{line}", text) for line, text in enumerate(texts, 1)]


def stored(namespace: TokenNamespace) -> dict[str, bytes]:
    keys = sorted(namespace.keys())
    return {
        key: tokens.tobytes()
        for key, tokens in zip(keys, namespace.get_many(keys), strict=True)
        if tokens is not None
    }


def expected(encoder: HashEncoder, rows: Sequence[ItemRow | BadRow]) -> dict[str, bytes]:
    return {
        row.id: encoder.encode([row.text], truncation="truncate").tobytes()
        for row in rows
        if isinstance(row, ItemRow)
    }


def counts(report: EncodeReport) -> tuple[int, int, int, int, int]:
    return report.rows_read, report.encoded, report.unchanged, report.truncated, report.bad_rows


def test_every_row_gets_the_tokens_of_its_own_text(encoder: HashEncoder, namespace: TokenNamespace) -> None:
    rows = rows_of(*[f"{'x' * (number * 7 % 31)} {number}" for number in range(50)])
    report = run_encode_job(encoder, namespace, rows, SMALL)
    assert counts(report) == (50, 50, 0, 0, 0)
    assert stored(namespace) == expected(encoder, rows)
    assert report.items_per_s > 0


def test_rerun_encodes_nothing_and_writes_nothing(encoder: HashEncoder, namespace: TokenNamespace) -> None:
    rows = rows_of(*[f"text {number}" for number in range(20)])
    run_encode_job(encoder, namespace, rows, SMALL)
    before = namespace.info_many(list(namespace.keys()))
    encoder.calls.clear()
    assert counts(run_encode_job(encoder, namespace, rows, SMALL)) == (20, 0, 20, 0, 0)
    assert encoder.calls == []
    assert namespace.info_many(list(namespace.keys())) == before


def test_only_changed_and_new_rows_are_encoded_in_full_batches(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    texts = [f"text {number}" for number in range(40)]
    run_encode_job(encoder, namespace, rows_of(*texts), SMALL)
    encoder.calls.clear()
    changed = [f"new {number}" if number % 10 == 0 else text for number, text in enumerate(texts)]
    rows = rows_of(*changed, "added")
    report = run_encode_job(encoder, namespace, rows, SMALL)
    assert counts(report) == (41, 5, 36, 0, 0)
    assert sorted(map(len, encoder.calls)) == [1, 4]
    assert stored(namespace) == expected(encoder, rows)


def test_batches_hold_rows_of_like_length(encoder: HashEncoder, namespace: TokenNamespace) -> None:
    lengths = list(range(1, 9))
    random.Random(7).shuffle(lengths)
    run_encode_job(encoder, namespace, rows_of(*["x" * length for length in lengths]), SMALL)
    assert [[len(text) for text in call] for call in encoder.calls] == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_corrupt_value_is_written_anew(
    encoder: HashEncoder, namespace: TokenNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of("one", "two")
    run_encode_job(encoder, namespace, rows, SMALL)
    with monkeypatch.context() as patch:
        patch.setattr("rankport.runtime.store.namespace.pack_value", lambda *_: b"rotten")
        namespace.put_many([TokenEntry("id1", encoder.encode(["one"])[0], content_hash("one"))])
    with pytest.raises(StoreError, match="id1"):
        namespace.get_many(["id1"])
    assert counts(run_encode_job(encoder, namespace, rows, SMALL)) == (2, 1, 1, 0, 0)
    assert stored(namespace) == expected(encoder, rows)


def test_long_texts_are_cut_and_counted_also_when_unchanged(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    rows = rows_of("short", "x" * MAX_CHARS, "y" * (MAX_CHARS + 1), "z" * 500, "w")
    assert counts(run_encode_job(encoder, namespace, rows, SMALL)) == (5, 5, 0, 2, 0)
    assert stored(namespace) == expected(encoder, rows)
    assert counts(run_encode_job(encoder, namespace, rows, SMALL)) == (5, 0, 5, 2, 0)


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


def test_progress_never_falls_and_ends_at_all_rows(encoder: HashEncoder, namespace: TokenNamespace) -> None:
    seen: list[EncodeProgress] = []
    rows = [*rows_of(*["text"] * 30, "crash"), BadRow(32, "broken")]
    run_encode_job(encoder, namespace, rows, SMALL, on_progress=seen.append)
    done = [progress.rows for progress in seen]
    assert done == sorted(done)
    assert seen[-1] == EncodeProgress(encoded=30, unchanged=0, bad_rows=2)


def test_prune_deletes_what_the_input_does_not_have(encoder: HashEncoder, namespace: TokenNamespace) -> None:
    run_encode_job(encoder, namespace, rows_of("a", "b", "c", "d"))
    rows = [*rows_of("a", "new b"), BadRow(3, "no text", "id3")]
    assert run_encode_job(encoder, namespace, rows).pruned == 0
    report = run_encode_job(encoder, namespace, rows, EncodeJobConfig(prune=True))
    assert (report.pruned, report.prune_refused) == (1, "")
    assert sorted(stored(namespace)) == ["id1", "id2", "id3"]  # a bad row's item is in the input


def test_prune_is_refused_where_ids_are_unreadable_or_nothing_was_usable(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    run_encode_job(encoder, namespace, rows_of("a", "b"))
    unreadable = [*rows_of("a"), BadRow(2, "broken JSON")]
    for rows, reason in ((unreadable, "1 bad rows have no readable id"), ([], "no usable row")):
        report = run_encode_job(encoder, namespace, rows, EncodeJobConfig(prune=True))
        assert report.pruned == 0
        assert reason in report.prune_refused
        assert len(namespace) == 2


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


def test_namespace_of_an_encoder_has_its_shape(store: TokenStore) -> None:
    assert namespace_of(store, HashEncoder("new", 3, 5)).spec == TokenSpec(3, 5, "float16")
    with pytest.raises(StoreError, match=r"\[3, 5\] float16, not \[3, 6\] float16"):
        namespace_of(store, HashEncoder("new", 3, 6))


@pytest.mark.parametrize("name", ["batch_size", "window_batches", "max_failures_in_a_row"])
def test_config_without_a_positive_size_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{name} is 0"):
        EncodeJobConfig(**{name: 0})


def test_content_hash_has_the_bytes_it_always_had() -> None:
    assert content_hash("text").hex() == "da95ec84f5b6c2891b602232b4868915"
    assert content_hash("text", truncated=True).hex() == "b2a3e831dd6dc5d4916fb3368058e72d"


TEXTS = st.sampled_from(["a", "b" * 10, "c" * 60, "d" * 41, "malformed", "crash", "infinite", "e e e"])


@settings(max_examples=scale(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(st.lists(st.tuples(st.integers(0, 12), TEXTS), max_size=25), min_size=1, max_size=3),
    batch_size=st.integers(1, 5),
    window_batches=st.integers(1, 3),
)
def test_any_history_of_inputs_leaves_the_tokens_of_the_latest_good_texts(
    tmp_path_factory: pytest.TempPathFactory,
    runs: list[list[tuple[int, str]]],
    batch_size: int,
    window_batches: int,
) -> None:
    encoder = HashEncoder()
    config = EncodeJobConfig(batch_size=batch_size, window_batches=window_batches)
    wanted: dict[str, str] = {}
    with TokenStore.open(tmp_path_factory.mktemp("store"), create=True) as store:
        namespace = namespace_of(store, encoder)
        for run in runs:
            rows = [ItemRow(line, f"id{number}", text) for line, (number, text) in enumerate(run, 1)]
            first = {row.id: row.text for row in reversed(rows)}
            good = {
                key: text for key, text in first.items() if text not in ("malformed", "crash", "infinite")
            }
            wanted |= good
            report = run_encode_job(encoder, namespace, rows, config)
            assert report.encoded + report.unchanged == len(good)
            assert report.bad_rows == len(rows) - len(good)
            assert report.truncated == sum(len(text) > MAX_CHARS for text in good.values())
        assert stored(namespace) == {
            key: encoder.encode([text], truncation="truncate").tobytes() for key, text in wanted.items()
        }
