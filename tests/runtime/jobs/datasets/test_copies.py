"""Datasets of tokens that are copied to token stores, and made of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.jobs.datasets import DATASET_FILE, DatasetFormat
from rankport.runtime.jobs.datasets.formats import format_of_part, parts_in, write_part
from rankport.runtime.jobs.datasets.parts import schema_of, table_of
from rankport.runtime.jobs.datasets.source import DatasetSource
from rankport.runtime.jobs.datasets.target import DatasetTarget
from rankport.runtime.store.copy_ends import NamespaceSource
from rankport.runtime.store.copying import CopyProgress, copy_tokens
from rankport.runtime.store.opening import open_store
from rankport.sdk.store_copies import copy_store
from support.token_samples import ENCODER, HASH, SPEC


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two parts, of 5,000 items and of one."""
    folder, schema, parts = tmp_path / "dataset", schema_of(ENCODER, SPEC), []
    for number, rows in enumerate((5000, 1)):
        ids = [f"{number}-{row}" for row in range(rows)]
        tokens = np.random.default_rng(number).normal(size=(rows, 2, 4)).astype(np.float16)
        write_part(folder / f"part-{number}.parquet", table_of(schema, ids, tokens, [HASH] * rows))
        parts.append({"name": f"part-{number}.parquet", "rows": rows})
    write_part(
        folder / "part-old.parquet", table_of(schema, ["old"], np.zeros((1, 2, 4), np.float16), [HASH])
    )
    spec = {"tokens": 2, "hidden_size": 4, "dtype": "float16"}
    content = {
        "format": "rankport-dataset",
        "format_version": 1,
        "encoder": ENCODER,
        "spec": spec,
        "parts": parts,
    }
    (folder / DATASET_FILE).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("kind", ["snapshot", "lmdb"])
def test_parts_that_the_dataset_names_are_copied_to_a_store(dataset: Path, tmp_path: Path, kind: Any) -> None:
    report = copy_store(str(dataset), str(tmp_path / "store"), kind=kind)[ENCODER]
    assert (report.items, report.written, report.compared, report.stored) == (5001, 5001, 5001, 5001)
    with open_store(tmp_path / "store", read_only=True) as store:
        namespace = store.namespace(ENCODER, SPEC)
        wanted = np.random.default_rng(0).normal(size=(5000, 2, 4)).astype(np.float16)
        np.testing.assert_array_equal(namespace.read([f"0-{row}" for row in range(5000)]).tokens, wanted)
        assert namespace.content_hashes(["1-0", "old"]) == [HASH, None]


def of_another_encoder(content: dict[str, Any]) -> None:
    content["encoder"] = "b" * 64


def with_more_rows(content: dict[str, Any]) -> None:
    content["parts"][0]["rows"] = 5001


def with_an_absent_part(content: dict[str, Any]) -> None:
    content["parts"].append({"name": "part-9.parquet", "rows": 1})


def without_parts(content: dict[str, Any]) -> None:
    del content["parts"]


def of_a_newer_format(content: dict[str, Any]) -> None:
    content["format_version"] = 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_another_encoder, "part-0.parquet is another part than the dataset says: run the job"),
        (with_more_rows, "part-0.parquet is another part than the dataset says: run the job"),
        (with_an_absent_part, "part-9.parquet cannot be read"),
        (without_parts, "_dataset.json does not say what is in the dataset: it has no 'parts'"),
        (of_a_newer_format, "_dataset.json is of format 'rankport-dataset' 2"),
    ],
)
def test_dataset_that_is_not_what_it_says_is_refused(
    dataset: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = json.loads((dataset / DATASET_FILE).read_text())
    change(content)
    (dataset / DATASET_FILE).write_text(json.dumps(content))
    with pytest.raises(StoreError, match=message):
        list(DatasetSource(dataset).batches())


def test_dataset_whose_own_file_is_no_text_is_refused_in_a_line(dataset: Path) -> None:
    (dataset / DATASET_FILE).write_bytes(b"{\xff" + bytes(1000))
    with pytest.raises(StoreError, match=r"in the dataset: it is not UTF-8 at byte 1$"):
        DatasetSource(dataset)


@pytest.mark.parametrize("part_format", get_args(DatasetFormat))
def test_dataset_that_is_made_of_a_store_goes_on_and_gives_the_store_again(
    dataset: Path, tmp_path: Path, part_format: DatasetFormat
) -> None:
    copy_store(str(dataset), str(tmp_path / "store"))
    made, back = tmp_path / "made", tmp_path / "back"
    with open_store(tmp_path / "store", read_only=True) as store:
        source = NamespaceSource(store.namespace(ENCODER), str(tmp_path / "store"))

        def stop(progress: CopyProgress) -> None:
            if progress.items >= 3000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            copy_tokens(source, DatasetTarget(made, source, SPEC, part_format, 1500), stop)
        assert not made.exists()
        files = [*(tmp_path / ".made.part" / "data").glob("*")]  # as a killed copy leaves some
        for file in files[:1]:
            shutil.copy(file, file.with_name("left.lance"))
        report = copy_tokens(source, DatasetTarget(made, source, SPEC, part_format, 1500))
        assert (report.unchanged, report.written, report.stored) == (2000, 3001, 5001)
        assert not (made / "data" / "left.lance").exists()
        wanted = source_content(source)
    assert len(parts_in(made)) == 3
    assert {format_of_part(part.name) for part in parts_in(made)} == {part_format}
    with pytest.raises(InvalidRequest, match="is there already: a dataset is made as a whole"):
        copy_store(str(tmp_path / "store"), str(made))
    with pytest.raises(StoreError, match="'int8' cannot be in a dataset"):
        copy_store(str(tmp_path / "store"), str(tmp_path / "small.dataset"), dtype="int8")
    copy_store(str(made), str(back))
    with open_store(back, read_only=True) as store:
        assert source_content(NamespaceSource(store.namespace(ENCODER), "back")) == wanted


def test_a_copy_that_finds_a_damaged_part_leaves_the_dataset_to_the_next(
    dataset: Path, tmp_path: Path
) -> None:
    copy_store(str(dataset), str(tmp_path / "store"))
    made = tmp_path / "made"
    with open_store(tmp_path / "store", read_only=True) as store:
        source = NamespaceSource(store.namespace(ENCODER), str(tmp_path / "store"))
        begun = DatasetTarget(made, source, SPEC, "parquet", 1500)
        begun.write(["0-0"], [], np.zeros((1, 2, 4), np.float16))
        begun.close()
        part = tmp_path / ".made.part" / "part-000.parquet"
        part.write_bytes(b"PAR1 and nothing of it")
        for _ in range(2):
            with pytest.raises(
                StoreError, match=r"part-000\.parquet, staged .*, cannot be read: .*: delete it"
            ):
                DatasetTarget(made, source, SPEC, "parquet", 1500)


@pytest.mark.parametrize(("name", "part_format"), [("a.lance", "lance"), ("a.arrow", "arrow")])
def test_the_name_of_what_is_made_tells_its_format(
    dataset: Path, tmp_path: Path, name: str, part_format: str
) -> None:
    copy_store(str(dataset), str(tmp_path / "store"))
    copy_store(str(tmp_path / "store"), str(tmp_path / name))
    assert {format_of_part(part.name) for part in parts_in(tmp_path / name)} == {part_format}
    assert copy_store(str(tmp_path / name), str(tmp_path / "b.snapshot"))[ENCODER].compared == 5001


def source_content(source: NamespaceSource) -> dict[str, tuple[bytes, bytes]]:
    return {
        key: (info.content_hash, rows.tobytes())
        for batch in source.batches()
        for key, info, rows in zip(batch.keys, batch.infos, batch.tokens, strict=True)
    }


def test_a_second_copy_into_one_dataset_is_refused_and_takes_nothing_from_the_first(
    dataset: Path, tmp_path: Path
) -> None:
    made, source = tmp_path / "made", DatasetSource(dataset)
    refused: list[str] = []

    def also(progress: CopyProgress) -> None:
        if not refused:
            with pytest.raises(StoreError) as error:
                DatasetTarget(made, source, SPEC, "arrow")  # of another format: what is staged is not its own
            refused.append(str(error.value))

    report = copy_tokens(source, DatasetTarget(made, source, SPEC, "parquet", 1500), also)
    assert refused == [f"another job fills dataset {made}: wait until it has ended, or give another folder"]
    assert (report.compared, len(parts_in(made))) == (5001, 2)
