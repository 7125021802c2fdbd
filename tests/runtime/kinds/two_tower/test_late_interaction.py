"""Towers of late interaction: texts, keys and vectors give the scores of the library that the folder is of."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.types import ItemStatus, Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.jobs.config import EncodeJobConfig
from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.storable import require_side
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.opening import open_store

ONE = EngineConfig(threads=1)
QUERY = "a nurse, ward"
ITEMS = [
    "nurse, ward!",
    "pilot",
    "a (cook) b. c",
    "!!!",
    "cook pilot nurse ward a b c d e f g h",
]  # the last is cut


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support import late_folders as late

    place = tmp_path_factory.mktemp("late")
    return late.native(late.body(place / "base"), place / "folder")


@pytest.fixture(scope="module")
def bundle(folder: Path, exported: Callable[..., Bundle]) -> Bundle:
    return exported(folder, name="tiny-late")


@pytest.fixture(scope="module")
def towers(bundle: Bundle, store: TokenStore) -> Iterator[Towers]:
    with Towers.load(bundle, store=store, config=ONE) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def store(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenStore]:
    """A store in int8 with the items under the keys 0, 1, ..."""
    rows = [ItemRow(line, str(line), text) for line, text in enumerate(ITEMS)]
    with (
        Towers.load(bundle, config=ONE) as encoder,
        open_store(tmp_path_factory.mktemp("rows") / "store", create=True) as opened,
    ):
        namespace = namespace_of(opened, encoder, "int8")
        report = run_encode_job(encoder, namespace, rows, EncodeJobConfig(truncation="truncate"))
        assert (report.encoded, report.truncated) == (len(ITEMS), 1)
        yield opened


@pytest.fixture(scope="module")
def expected(folder: Path) -> NDArray[np.float32]:
    from sentence_transformers import MultiVectorEncoder

    own = MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)
    scores: NDArray[np.float32] = own.similarity(
        own.encode_query([QUERY]), own.encode_document(ITEMS)
    ).numpy()[0]
    return scores


def test_the_manifest_says_how_many_vectors_there_are(bundle: Bundle, towers: Towers) -> None:
    manifest = bundle.manifest
    assert manifest.embedding is not None
    assert (manifest.embedding.tokens, manifest.embedding.hidden_size) == (14, 12)
    assert (manifest.limits.max_prefix_tokens, manifest.limits.max_item_tokens) == (10, 14)
    assert {graph.role: graph.outputs[0].shape for graph in manifest.graphs} == {
        "represent-query": ["items", 10, 12],
        "represent-item": ["items", 14, 12],
        "score": ["items", 1],
    }
    about = towers.describe()
    assert (about.labels, about.score_kind, about.embedding_tokens) == (("maxsim",), "logit", 14)


def test_texts_score_as_in_the_library(towers: Towers, expected: NDArray[np.float32]) -> None:
    with pytest.raises(LimitExceeded, match="item 4"):
        towers.score(QUERY, ITEMS)
    result = towers.score(QUERY, ITEMS, truncation="truncate")
    np.testing.assert_allclose(result.scores, expected, atol=1e-5)
    assert result.status[-1] == ItemStatus.TRUNCATED


def test_keys_and_vectors_beside_texts_keep_their_places(
    towers: Towers, expected: NDArray[np.float32]
) -> None:
    rows = towers.represent(ITEMS, "item", truncation="truncate")
    asked = towers.represent([QUERY], "query")[0]
    assert (rows.shape, asked.shape) == ((5, 14, 12), (10, 12))
    own = (np.abs(rows).max(axis=2) > 0).sum(axis=1)
    assert own.tolist() == [5, 4, 7, 3, 14]  # [CLS], [D], words without punctuation, [SEP]
    mixed = [ITEMS[0], Key("1"), rows[2], Key("9"), Key("4"), ITEMS[3]]
    for query in (QUERY, asked):
        result = towers.score(query, mixed)
        assert result.status[3] == ItemStatus.NOT_FOUND
        there = [0, 1, 2, 4, 5]
        np.testing.assert_allclose(result.scores[there], expected[[0, 1, 2, 4, 3]], atol=0.05)
        np.testing.assert_allclose(result.scores[[0, 2, 5]], expected[[0, 2, 3]], atol=1e-5)


def test_a_long_list_is_scored_in_parts(towers: Towers, expected: NDArray[np.float32]) -> None:
    rows = towers.represent(ITEMS[:4], "item")
    many = [rows[place % 4] if place % 3 else ITEMS[place % 4] for place in range(600)]
    result = towers.score(QUERY, many)
    np.testing.assert_allclose(result.scores, np.tile(expected[:4], 150), atol=1e-5)


@pytest.mark.parametrize(
    ("query", "items", "message"),
    [
        (
            np.zeros(12, np.float32),
            ["a"],
            r"prefix: embedding tokens of shape \[1, 12\], the bundle takes \[10, 12\]",
        ),
        (
            QUERY,
            [np.ones((3, 12), np.float32)],
            r"item 0: embedding tokens of shape \[3, 12\].* takes \[14, 12\]",
        ),
        (Key("0"), ["a"], "of late interaction no queries are stored: give the query itself"),
    ],
)
def test_other_vectors_are_refused(towers: Towers, query: object, items: list[object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        towers.score(query, items)  # type: ignore[arg-type]


def test_an_item_without_a_vector_comes_last(towers: Towers, expected: NDArray[np.float32]) -> None:
    result = towers.score(QUERY, [np.zeros((14, 12), np.float32), "pilot"])
    assert list(result.status) == [ItemStatus.OK, ItemStatus.OK]
    np.testing.assert_allclose(result.scores, [-1e9, expected[1]], rtol=1e-5)


def test_no_store_keeps_queries(towers: Towers) -> None:
    require_side(towers.describe(), "item")
    with pytest.raises(InvalidRequest, match="is of late interaction, of which items alone are stored"):
        require_side(towers.describe(), "query")
