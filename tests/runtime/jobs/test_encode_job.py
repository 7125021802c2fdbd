"""The encode job: every row's tokens come from its own text, and a rerun encodes only what changed."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.jobs.config import FileColumns
from rankport.runtime.jobs.encode_job import (
    EncodeJobConfig,
    EncodeProgress,
    content_hash,
    namespace_of,
    run_encode_job,
)
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.jobs.rows.sources import ItemSources
from rankport.runtime.store.contract import TokenEntry, TokenNamespace, TokenStore
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.effort import scale
from support.hash_encoder import MAX_CHARS, HashEncoder
from support.jobs.encode_jobs import SMALL, counts, rows_of, stored

PRUNE = EncodeJobConfig(prune=True, max_prune_share=1)


def expected(encoder: HashEncoder, rows: Sequence[ItemRow | BadRow]) -> dict[str, bytes]:
    return {
        row.id: encoder.encode([row.text], truncation="truncate").tobytes()
        for row in rows
        if isinstance(row, ItemRow)
    }


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
        patch.setattr("rankport.runtime.store.record_namespace.pack_value", lambda *_: b"rotten")
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
    report = run_encode_job(encoder, namespace, rows, PRUNE)
    assert (report.pruned, report.prune_refused) == (1, "")
    assert sorted(stored(namespace)) == ["id1", "id2", "id3"]  # a bad row's item is in the input


def test_rows_that_say_so_delete_their_items(encoder: HashEncoder, namespace: TokenNamespace) -> None:
    run_encode_job(encoder, namespace, [ItemRow(n, f"i{n}", text) for n, text in enumerate("abc")])
    rows = [ItemRow(1, "i0", "", deleted=True), ItemRow(2, "i1", "b"), ItemRow(3, "new", "", deleted=True)]
    report = run_encode_job(encoder, namespace, rows)
    assert (report.rows_read, report.deleted, report.unchanged, report.encoded) == (3, 2, 1, 0)
    assert sorted(namespace.keys()) == ["i1", "i2"]


def test_only_what_the_job_owns_is_pruned(encoder: HashEncoder, namespace: TokenNamespace) -> None:
    rows = [ItemRow(n, f"i{n}", text) for n, text in enumerate("abc")]
    run_encode_job(encoder, namespace, rows)
    report = run_encode_job(encoder, namespace, rows[:1], PRUNE, owns=lambda key: key != "i2")
    assert report.pruned == 1
    assert sorted(namespace.keys()) == ["i0", "i2"]


def test_a_bad_row_without_an_id_keeps_the_items_of_every_shard(
    encoder: HashEncoder, namespace: TokenNamespace, tmp_path: Path
) -> None:
    path, names = tmp_path / "items.jsonl", [f"i{number}" for number in range(8)]
    lines = [f'{{"id": "{name}", "text": "{name}"}}\n' for name in names]
    for last, pruned in ((lines[0], 0), ('{"id": "i0", ', 0), ("", 1)):
        path.write_text("".join(lines[1:]) + last)
        total = 0
        for index in (1, 2, 3):
            sources = ItemSources.open([path], FileColumns(shard=f"{index}/3"))
            rows = sources.rows()
            total += run_encode_job(
                encoder,
                namespace,
                rows,
                PRUNE,
                owns=sources.owns,
                strays=lambda rows=rows: rows.strays,  # type: ignore[misc]
            ).pruned
        assert total == pruned
        assert len(namespace) == len(names) - pruned


def test_a_file_that_lost_more_than_its_share_prunes_nothing_and_fails(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    texts = [f"text {number}" for number in range(10)]
    run_encode_job(encoder, namespace, rows_of(*texts))
    at_limit = EncodeJobConfig(prune=True, max_prune_share=0.3)
    report = run_encode_job(encoder, namespace, rows_of(*texts[:6]), at_limit)
    assert (report.pruned, len(namespace)) == (0, 10)
    assert report.prune_refused.startswith(
        "4 of 10 stored items are not in the input, 40.0%, over max_prune_share 0.3 (--max-prune-share)"
    )
    assert report.failure == f"not pruned: {report.prune_refused}"
    report = run_encode_job(encoder, namespace, rows_of(*texts[:7]), at_limit)
    assert (report.pruned, report.failure, len(namespace)) == (3, "", 7)


def test_a_share_of_nothing_to_prune_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"max_prune_share.*without prune"):
        EncodeJobConfig(max_prune_share=1)
    with pytest.raises(InvalidRequest, match=r"max_prune_share is 1.5: it must be from 0 to 1"):
        EncodeJobConfig(prune=True, max_prune_share=1.5)


def test_what_keeps_a_job_from_pruning_is_told_only_where_an_item_is_gone(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    run_encode_job(encoder, namespace, rows_of("a", "b"))
    report = run_encode_job(encoder, namespace, [*rows_of("a", "b"), BadRow(3, "broken JSON")], PRUNE)
    assert (report.pruned, report.failure, len(namespace)) == (0, "", 2)


def test_prune_is_refused_where_ids_are_unreadable_or_nothing_was_usable(
    encoder: HashEncoder, namespace: TokenNamespace
) -> None:
    run_encode_job(encoder, namespace, rows_of("a", "b"))
    unreadable = [*rows_of("a"), BadRow(2, "broken JSON")]
    for rows, reason in ((unreadable, "1 bad row without a readable id"), ([], "no usable row")):
        report = run_encode_job(encoder, namespace, rows, PRUNE)
        assert report.pruned == 0
        assert reason in report.prune_refused
        assert len(namespace) == 2


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


@settings(max_examples=scale(60))
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
    with open_store(tmp_path_factory.mktemp("store"), create=True) as store:
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
