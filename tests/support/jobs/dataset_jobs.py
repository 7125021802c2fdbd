"""Jobs on a Ray cluster of this machine, with an encoder that keeps a book of what it computes."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.types import Truncation
from rankport.runtime.jobs.config import EncodeJobConfig, FileColumns
from rankport.runtime.jobs.datasets import DatasetFormat
from rankport.runtime.jobs.datasets.formats import parts_in
from rankport.runtime.jobs.datasets.groups import groups_of
from rankport.runtime.jobs.datasets.part_maker import Target
from rankport.runtime.jobs.datasets.parts import read_part, tokens_of
from rankport.runtime.jobs.datasets.windows import MakeEncoder
from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.hash_encoder import HashEncoder

CONFIG = EncodeJobConfig(batch_size=8, window_batches=4)
SPEC = TokenSpec(2, 8, "float16")
ROWS_A_FILE = 200
RAY_WARNS = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in (
        "DeprecationWarning",
        "FutureWarning",
        "ResourceWarning",
        "pytest.PytestUnraisableExceptionWarning",
    )
]
"""Marks of tests with Ray, which warns of what it does itself."""


class BookedEncoder(HashEncoder):
    """Writes a line for each batch, with how many texts it had, and takes its time."""

    def __init__(self, book: Path, batch_s: float) -> None:
        super().__init__(padding_matters=True)
        self._book, self._batch_s = book, batch_s

    def encode(self, texts: Sequence[str], *, truncation: Truncation = "error") -> NDArray[np.float16]:
        tokens = super().encode(texts, truncation=truncation)
        time.sleep(self._batch_s)
        with self._book.open("a") as file:
            file.write(f"{len(texts)}\n")
        return tokens


@contextmanager
def _booked(book: Path, batch_s: float) -> Iterator[HashEncoder]:
    yield BookedEncoder(book, batch_s)


def booked(book: Path, batch_s: float = 0.0) -> MakeEncoder:
    """Makes encoders with one book."""
    return partial(_booked, book, batch_s)


def texts_of(book: Path) -> int:
    """Texts computed by all encoders of a book."""
    return sum(map(int, book.read_text().split())) if book.exists() else 0


def write_files(
    folder: Path, files: int, suffix: str = "csv", *, small: bool = False
) -> tuple[ItemsFile, ...]:
    """Files of 200 rows, in CSV or JSONL, the last one of each with the id of its first, and one malformed.

    Unless they are `small`, each is a group of its own.
    """
    note = "" if small else "n" * 1500  # of a column that nobody reads
    for number in range(files):
        ids = [f"i{number}-{row}" for row in range(ROWS_A_FILE - 1)] + [f"i{number}-0"]
        texts = ["malformed" if row == 7 else f"text {'x' * (row % 29)} {row}" for row in range(ROWS_A_FILE)]
        rows = list(zip(ids, texts, strict=True))
        lines = ["id,text,note", *(f"{id},{text},{note}" for id, text in rows)]
        if suffix == "jsonl":
            lines = [json.dumps({"id": id, "text": text, "note": note}) for id, text in rows]
        (folder / f"{number}.{suffix}").write_text("\n".join(lines) + "\n")
    return tuple(ItemsFile.open(folder / f"{number}.{suffix}", FileColumns()) for number in range(files))


def target(folder: Path, part_format: DatasetFormat = "parquet") -> Target:
    """A dataset in a folder."""
    return Target(str(folder), HashEncoder().fingerprint, SPEC, CONFIG, part_format)


@dataclass(frozen=True, slots=True)
class Stored:
    """Item of a dataset."""

    tokens: bytes
    content_hash: bytes


def stored(folder: Path) -> Mapping[str, Stored]:
    """Reads a dataset. An id twice in it is an error."""
    found: dict[str, Stored] = {}
    for path in parts_in(folder):
        table = read_part(path)
        tokens = tokens_of(table, SPEC)
        for row, (id, content_hash) in enumerate(
            zip(table["id"].to_pylist(), table["content_hash"].to_pylist(), strict=True)
        ):
            assert id not in found
            found[id] = Stored(tokens[row].tobytes(), content_hash)
    return found


def in_one_process(folder: Path, files: tuple[ItemsFile, ...]) -> dict[str, Stored]:
    """Encodes the files with a job of one process each, of small ones that follow each other with one."""
    encoder = HashEncoder(padding_matters=True)
    with open_store(folder / "one", create=True) as store:
        namespace = namespace_of(store, encoder)
        for group in groups_of(files):
            run_encode_job(encoder, namespace, group.rows(), CONFIG)
        keys = list(namespace.keys())
        tokens, infos = namespace.get_many(keys), namespace.info_many(keys)
    return {
        key: Stored(rows.tobytes(), info.content_hash)
        for key, rows, info in zip(keys, tokens, infos, strict=True)
        if rows is not None and info is not None
    }
