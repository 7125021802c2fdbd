"""`rankport encode` with a real exported bundle."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from rankport.protos.errors import BundleError, InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.jobs.datasets.parts import read_part, tokens_of, whose
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.store.opening import open_store
from rankport.sdk.cli.app import command_tree
from rankport.sdk.cli.output.encoding.encode import show_progress
from support.cli import rankport

ROWS = [("occ1", "data engineer"), ("occ2", "nurse"), ("occ3", "senior machine operator")]


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text("id,text\n" + "".join(f"{key},{text}\n" for key, text in ROWS))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "tokens.lmdb"


def encode(bundle: Bundle, items: Path, store: Path, *options: str) -> Result:
    paths = ["--bundle", str(bundle.path), "--items", str(items), "--store", str(store)]
    return CliRunner().invoke(command_tree(), ["encode", *paths, *options])


def report_of(bundle: Bundle, items: Path, store: Path, *options: str) -> dict[str, Any]:
    result = encode(bundle, items, store, "--json", "-", *options)
    report: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if report["passed"] else 1)
    return report


def test_catalogue_is_stored_as_the_encoder_makes_it(
    encoder_bundle: Bundle, items: Path, store: Path
) -> None:
    result = encode(encoder_bundle, items, store)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "items in the store" in result.stderr
    with ItemEncoder.load(encoder_bundle) as encoder, open_store(store, read_only=True) as tokens:
        namespace = tokens.namespace(encoder.fingerprint)
        made = encoder.encode([text for _, text in ROWS])
        for (key, _), wanted in zip(ROWS, made, strict=True):
            np.testing.assert_allclose(namespace.get_many([key])[0], wanted, atol=1e-3)
        assert len(namespace) == len(ROWS)


def test_rerun_leaves_unchanged_items_and_prunes_on_request(
    encoder_bundle: Bundle, items: Path, store: Path
) -> None:
    assert report_of(encoder_bundle, items, store)["encoded"] == 3
    items.write_text("id,text\nocc1,data engineer\nocc2,dental nurse\n")
    refused = report_of(encoder_bundle, items, store, "--prune")
    assert (refused["passed"], refused["pruned"], refused["stored"]) == (False, 0, 3)
    assert refused["failure"].startswith("not pruned: 1 of 3 stored items is not in the input")
    report = report_of(encoder_bundle, items, store, "--prune", "--max-prune-share", "0.5")
    assert (report["encoded"], report["unchanged"], report["pruned"], report["stored"]) == (0, 2, 1, 2)


def test_columns_format_and_separator_are_options(
    encoder_bundle: Bundle, tmp_path: Path, store: Path
) -> None:
    items = tmp_path / "items.txt"
    items.write_text('{"key": "k", "title": "nurse", "more": "senior cook"}\n')
    options = ["--id-column", "key", "--text-column", "title", "--text-column", "more", "--separator", " of "]
    assert report_of(encoder_bundle, items, store, "--format", "jsonl", *options)["encoded"] == 1
    items.write_text('{"id": "k", "text": "nurse of senior cook"}\n')
    assert report_of(encoder_bundle, items, store, "--format", "jsonl")["unchanged"] == 1


def test_long_texts_are_cut_or_refused_as_asked(encoder_bundle: Bundle, tmp_path: Path, store: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text(f"id,text\nlong,{'nurse ' * 100}\nshort,nurse\n")
    assert report_of(encoder_bundle, items, store)["truncated"] == 1
    strict = report_of(encoder_bundle, items, store, "--truncation", "error")
    assert (strict["unchanged"], strict["bad_rows"]) == (1, 1)


def test_bad_rows_are_listed_written_and_tolerated_up_to_a_limit(
    encoder_bundle: Bundle, items: Path, store: Path, tmp_path: Path
) -> None:
    with items.open("ab") as stream:
        stream.write(b"occ4,\nocc5,\xff\n,no id\nocc1,again\n")
    bad_rows = tmp_path / "reports" / "bad.jsonl"
    page = tmp_path / "reports" / "page.html"
    result = encode(encoder_bundle, items, store, "--bad-rows", str(bad_rows), "--html", str(page))
    assert result.exit_code == 0
    assert "bad row 5 (occ4): no text in text" in result.stderr
    written = [json.loads(line) for line in bad_rows.read_text().splitlines()]
    assert [(row["line"], row["id"]) for row in written] == [(5, "occ4"), (6, "occ5"), (7, None), (8, "occ1")]
    assert written[0]["row"] == {"id": "occ4", "text": ""}
    assert "<td>occ4<td>no text in text" in page.read_text()
    assert report_of(encoder_bundle, items, store, "--max-bad-rows", "4")["passed"]
    report = report_of(encoder_bundle, items, store, "--max-bad-rows", "3")
    assert (report["passed"], report["failure"]) == (False, "4 bad rows, --max-bad-rows is 3")
    assert report["stored"] == 3
    bad_rows.write_text(bad_rows.read_text().replace('"occ4", "text": ""', '"occ4", "text": "cook"'))
    fed = report_of(encoder_bundle, bad_rows, store, "--format", "dead-letters")
    assert (fed["encoded"], fed["bad_rows"], fed["stored"]) == (2, 2, 4)


@pytest.mark.parametrize("option", ["--bad-rows", "--html", "--json"])
def test_a_report_that_cannot_be_written_is_one_clear_error(
    encoder_bundle: Bundle, items: Path, store: Path, option: str
) -> None:
    result = encode(encoder_bundle, items, store, option, "/proc/none/report")
    assert isinstance(result.exception, FileNotFoundError)
    assert result.exception.filename == f"{option} /proc/none/report"
    assert result.exception.strerror == "cannot be written: No such file or directory"


@pytest.mark.parametrize("option", ["--bad-rows", "--html", "--json"])
def test_a_report_in_the_place_of_a_folder_is_refused_before_the_job(
    encoder_bundle: Bundle, items: Path, store: Path, option: str, tmp_path: Path
) -> None:
    result = encode(encoder_bundle, items, store, option, str(tmp_path))
    assert isinstance(result.exception, IsADirectoryError)
    assert not store.exists()


@pytest.mark.parametrize("option", ["--html", "--json", "--bad-rows"])
def test_a_report_in_the_place_of_the_items_is_refused(
    encoder_bundle: Bundle, items: Path, store: Path, option: str
) -> None:
    given = ["encode", "--bundle", encoder_bundle.path, "--store", store, option, items]
    before = items.read_bytes()
    for place, told in ((items, f"--items and {option} are both"), (items.parent, "is a file of the items")):
        done = rankport(*given, "--items", place)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr
    assert items.read_bytes() == before
    assert not store.exists()


def test_a_side_that_there_is_not_makes_no_store(encoder_bundle: Bundle, items: Path, store: Path) -> None:
    assert encode(encoder_bundle, items, store, "--side", "both").exit_code != 0
    assert not store.exists()


def test_input_without_a_usable_row_fails(encoder_bundle: Bundle, items: Path, store: Path) -> None:
    items.write_text("id,text\n1,\n")
    assert report_of(encoder_bundle, items, store)["failure"] == "none of 1 rows could be used"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--id-column", "key"], "no column 'key'; its columns: id, text"),
        (["--format", "xml"], "'xml' is not one of"),
        (["--batch-size", "0"], "--batch-size"),
    ],
)
def test_wrong_usage_exits_2_and_makes_no_store(
    encoder_bundle: Bundle, items: Path, store: Path, options: list[str], problem: str
) -> None:
    given = ["encode", "--bundle", encoder_bundle.path, "--items", items, "--store", store]
    done = rankport(*given, *options)
    assert done.returncode == 2
    assert done.stderr.startswith("rankport: InvalidRequest: ")
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1
    assert not store.exists()


def test_a_file_that_is_not_there_exits_1(encoder_bundle: Bundle, store: Path) -> None:
    done = rankport("encode", "--bundle", encoder_bundle.path, "--items", "nothing.csv", "--store", store)
    assert (done.returncode, done.stderr) == (1, "rankport: NotFound: no items file nothing.csv\n")
    assert not store.exists()


def test_bundle_that_cannot_encode_is_named(
    encoder_bundle: Bundle, mix_bundle: Bundle, items: Path, store: Path, tmp_path: Path
) -> None:
    assert isinstance(encode(mix_bundle, items, store).exception, InvalidRequest)
    missing = Bundle(tmp_path / "none", encoder_bundle.manifest)
    assert isinstance(encode(missing, items, store).exception, BundleError)
    assert not store.exists()


def test_int8_tokens_fill_hidden_and_are_published_at_the_end(
    encoder_bundle: Bundle, items: Path, store: Path
) -> None:
    options = ("--token-dtype", "int8", "--publish", "when-complete")
    failed = encode(
        encoder_bundle,
        items,
        store,
        *options,
        "--text-column",
        "id",
        "--max-bad-rows",
        "0",
        "--max-row-length",
        "12",
    )
    assert failed.exit_code == 1
    assert "not published yet: `rankport store publish" in failed.stderr
    assert encode(encoder_bundle, items, store, *options).exit_code == 0
    with ItemEncoder.load(encoder_bundle) as encoder, open_store(store, read_only=True) as tokens:
        assert not tokens.filling()
        namespace = tokens.namespace(encoder.fingerprint)
        made = encoder.encode([text for _, text in ROWS])
        read = namespace.read([key for key, _ in ROWS]).tokens.astype(np.float32)
    assert namespace.spec.dtype == "int8"
    level = np.abs(made).max(axis=2, keepdims=True).astype(np.float32) / 127
    assert (np.abs(read - made.astype(np.float32)) <= 0.6 * level).all()


def test_a_dataset_has_the_tokens_of_the_store(
    encoder_bundle: Bundle, items: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals: list[int | None] = []

    def noting(console: Console, total: int | None) -> Any:
        totals.append(total)
        return show_progress(console, total)

    monkeypatch.setattr("rankport.sdk.cli.output.encoding.encode.show_progress", noting)
    folder = tmp_path / "dataset.arrow"
    options = [
        "encode",
        "--bundle",
        str(encoder_bundle.path),
        "--items",
        str(tmp_path),
        "--dataset",
        str(folder),
    ]
    options += ["--text", "{text:40}", "--json", str(tmp_path / "report"), "--token-dtype", "float32"]
    assert CliRunner().invoke(command_tree(), options).exit_code == 0
    report = json.loads((tmp_path / "report").read_text())
    assert (report["encoded"], report["encoder"]) == (3, encoder_bundle.manifest.fingerprint)
    assert totals == [report["rows_read"]]  # by which the time left is told
    encode(encoder_bundle, items, store, "--token-dtype", "float32")
    (path,) = folder.glob("part-*.arrow")
    table = read_part(path)
    _, spec = whose(table.schema, path)
    assert spec.dtype == "float32"
    with open_store(store, read_only=True) as tokens:
        namespace = tokens.namespace(encoder_bundle.manifest.fingerprint)
        np.testing.assert_array_equal(tokens_of(table, spec), namespace.read(table["id"].to_pylist()).tokens)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ([], "give either --store or --dataset"),
        (["--store", "a", "--dataset", "b"], "give either --store or --dataset"),
        (["--store", "a", "--engine", "ray"], "--engine ray goes with --dataset"),
        (["--store", "a", "--dataset-format", "lance"], "--dataset-format goes with --dataset"),
        (["--dataset", "a", "--token-dtype", "int8"], "a dataset has float16 or float32"),
        (["--dataset", "a", "--prune"], "leave prune and deleted_column out"),
        (
            ["--dataset", "a", "--format", "dead-letters"],
            "mend the rows in the items and make it of them again",
        ),
        (["--dataset", "a", "--shard", "1/2"], "leave shard (--shard) out"),
        (["--dataset", "a", "--engine", "ray", "--min-actors", "2"], "max_actors is 1, and min_actors 2"),
        (["--dataset", "a", "--min-actors", "2"], "min_actors of a Ray cluster: give --engine ray too"),
        (["--store", "a", "--ray-address", "auto"], "address of a Ray cluster: give --engine ray too"),
        (["--store", "a", "--text", "{text}", "--text-column", "id"], "leave text columns and separator out"),
        (["--store", "a", "--text", "{text}", "--separator", "-"], "leave text columns and separator out"),
    ],
)
def test_what_does_not_go_together_is_told(
    encoder_bundle: Bundle, items: Path, options: list[str], error: str
) -> None:
    done = rankport("encode", "--bundle", str(encoder_bundle.path), "--items", str(items), *options)
    assert done.returncode == 2
    assert error in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        (
            "a.csv.gz",
            gzip.compress(b"id,text\n" + b"1,one\n" * 9, mtime=0)[:-9],
            2,
            "ended before the end-of-stream",
        ),
        ("a.parquet", b"PAR1", 2, "cannot be read as Parquet"),
        ("a.csv", b'id,text\n1,"one\n', 2, "is never closed"),
        ("a.csv", None, 1, "no items file"),
    ],
)
def test_a_file_that_is_damaged_is_told_apart_from_one_that_is_not_there(
    encoder_bundle: Bundle, tmp_path: Path, name: str, content: bytes | None, code: int, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    store = ("--store", str(tmp_path / "tokens"))
    done = rankport("encode", "--bundle", str(encoder_bundle.path), "--items", str(tmp_path / name), *store)
    assert (done.returncode, says in done.stderr) == (code, True)
