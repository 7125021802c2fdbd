"""Towers of weights of a vocabulary: those of the library that the folder is of, without zeros, on every way."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound, PairingError, StoreError
from rankport.protos.sparse import SparseRows
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.jobs.encode_job import namespace_of
from rankport.runtime.kinds.two_tower.kind import TWO_TOWER
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.server.server import Server
from rankport.runtime.store.opening import open_store
from rankport.sdk import Client, encode
from rankport.sdk.datasets import encode_dataset
from rankport.sdk.store_copies import copy_store
from support.cli import rankport
from support.servers.http import ask
from support.servers.redis_server import free_port, redis_server
from support.servers.serving import HTTP

ONE = EngineConfig(threads=1)
QUERY = "a nurse, ward nurse"
ITEMS = ["nurse, ward", "pilot", "a (cook) b. c", "a b c d e f g h " * 3]  # the last is cut
VOCABULARY = 19


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support import sparse_folders as sparse
    from support.sentence_folders import change

    place = tmp_path_factory.mktemp("sparse")
    folder = sparse.routed(sparse.masked_lm(place / "base"), place / "folder")
    change(folder / "document_0_Transformer", "sentence_bert_config.json", max_seq_length=20)
    return folder


@pytest.fixture(scope="module")
def bundle(folder: Path, exported: Callable[..., Bundle]) -> Bundle:
    return exported(folder, name="tiny-sparse")


@pytest.fixture(scope="module")
def towers(bundle: Bundle) -> Iterator[Towers]:
    with Towers.load(bundle, config=ONE) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def expected(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of the query and of the items, by the library."""
    from sentence_transformers import SparseEncoder

    own = SparseEncoder(str(folder), device="cpu", local_files_only=True)
    return own.encode_query([QUERY]).to_dense().numpy(), own.encode_document(ITEMS).to_dense().numpy()


Expected = tuple[NDArray[np.float32], NDArray[np.float32]]


def test_the_manifest_says_that_a_row_weighs_a_vocabulary(bundle: Bundle, towers: Towers) -> None:
    embedding = bundle.manifest.embedding
    assert embedding is not None
    assert (embedding.form, embedding.tokens, embedding.hidden_size) == ("vocabulary", 1, VOCABULARY)
    about = towers.describe()
    assert (about.embedding_form, about.labels, about.score_kind) == ("vocabulary", ("dot",), "logit")
    assert towers.capabilities == {"scores", "scores_apart", "weighs", "encodes_sparse"}
    assert not TWO_TOWER.reads_tokens(bundle)


def test_weights_are_those_of_the_library_without_zeros(towers: Towers, expected: Expected) -> None:
    with pytest.raises(LimitExceeded, match="item 3"):
        towers.encode_sparse(ITEMS)
    asked, items = (
        towers.encode_sparse([QUERY], side="query"),
        towers.encode_sparse(ITEMS, truncation="truncate"),
    )
    for rows, theirs in ((asked, expected[0]), (items, expected[1])):
        np.testing.assert_allclose(rows.to_dense(), theirs, atol=1e-5)
        assert [len(values) for _, values in rows] == (theirs != 0).sum(axis=1).tolist()
        assert rows.values.all()
    assert len(towers.encode_sparse([])) == 0
    with pytest.raises(InvalidRequest, match="side is 'left': give query or item"):
        towers.encode_sparse(ITEMS, side="left")  # type: ignore[arg-type]


def test_many_texts_are_weighed_and_scored_in_their_places(towers: Towers, expected: Expected) -> None:
    many = [ITEMS[place % 3] for place in range(300)]
    rows = towers.encode_sparse(many)
    np.testing.assert_allclose(rows.to_dense(), expected[1][np.arange(300) % 3], atol=1e-5)
    dense = rows.to_dense()
    mixed = [dense[place] if place % 7 == 0 else text for place, text in enumerate(many)]
    theirs = expected[1][np.arange(300) % 3] @ expected[0][0]
    for query in (QUERY, expected[0][0]):
        np.testing.assert_allclose(towers.score(query, mixed).scores, theirs, atol=1e-5)


def test_many_texts_are_one_request_of_the_queue(bundle: Bundle, expected: Expected) -> None:
    texts = [ITEMS[place % 3] for place in range(300)]
    full = replace(ONE, max_queued_requests=1, max_queued_tokens=9)  # a larger one is taken when none waits
    with Towers.load(bundle, config=full) as towers:
        weights, scores = towers.encode_sparse(texts).to_dense(), towers.score(expected[0][0], texts).scores
    theirs = expected[1][np.arange(300) % 3]
    np.testing.assert_allclose(weights, theirs, atol=1e-5)
    np.testing.assert_allclose(scores, theirs @ expected[0][0], atol=1e-5)
    with (
        Towers.load(bundle, config=replace(ONE, max_request_tokens=999)) as towers,
        pytest.raises(LimitExceeded, match="the limit is 999"),
    ):
        towers.encode_sparse(texts)


def test_no_store_keeps_weights(bundle: Bundle, towers: Towers, tmp_path: Path) -> None:
    with open_store(tmp_path / "store", create=True) as store:
        with pytest.raises(
            InvalidRequest, match="makes weights of a vocabulary, which no store keeps: give a dataset"
        ):
            namespace_of(store, towers)
        with pytest.raises(InvalidRequest, match="store: bundle 'tiny-sparse' makes weights of a vocabulary"):
            Towers.load(bundle, store=store, config=ONE)


def test_what_is_refused_leaves_no_store_behind(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,text\n1,pilot\n")
    columns = ["--id-column", "id", "--text-column", "text", "--store", str(tmp_path / "store")]
    told = rankport("encode", "--bundle", bundle.path, "--items", tmp_path / "items.csv", *columns)
    assert told.returncode
    assert "no store keeps: give a dataset (--dataset FOLDER)" in " ".join(told.stderr.split())
    with pytest.raises(InvalidRequest, match="which no store keeps"):
        encode(
            bundle.path, tmp_path / "items.csv", tmp_path / "store", id_column="id", text_columns=("text",)
        )
    assert not (tmp_path / "store").exists()


def test_a_consumer_of_changes_is_refused_and_leaves_no_store_behind(bundle: Bundle, tmp_path: Path) -> None:
    with redis_server(tmp_path, port=free_port()) as redis:
        told = rankport(
            "nearline", "--bundle", bundle.path, "--redis", redis.url, "--store", tmp_path / "store"
        )
    assert told.returncode
    assert "'tiny-sparse' makes weights of a vocabulary, which no store keeps" in " ".join(
        told.stderr.split()
    )
    assert not (tmp_path / "store").exists()


def test_a_dataset_has_the_weights_by_id(bundle: Bundle, expected: Expected, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "id,text\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(ITEMS))
    )
    options = {
        "id_column": "id",
        "text_columns": ("text",),
        "truncation": "truncate",
    }
    out = tmp_path / "weights.dataset"
    for unchanged in (0, len(ITEMS)):  # the second run finds all
        report = encode_dataset(bundle.path, tmp_path / "items.csv", out, **options)
        assert (report.unchanged, report.truncated) == (unchanged, 1)
    table = pq.read_table(out).sort_by("id")
    for indices, values, theirs in zip(
        table["indices"].to_pylist(), table["values"].to_pylist(), expected[1], strict=True
    ):
        np.testing.assert_allclose(values, theirs[indices], atol=1e-5)
        assert indices == np.nonzero(theirs)[0].tolist()
    metadata = table.schema.metadata
    assert (metadata[b"rankport.format"], metadata[b"rankport.encoder"].decode()) == (
        b"sparse-weights 1",
        bundle.manifest.fingerprint,
    )
    assert json.loads(metadata[b"rankport.spec"]) == {"vocabulary": VOCABULARY, "dtype": "float32"}
    with pytest.raises(StoreError, match="has weights of a vocabulary, which no store keeps"):
        copy_store(str(out), str(tmp_path / "store"))
    with pytest.raises(InvalidRequest, match=r"token_dtype is 'float16' .*weights are kept in float32"):
        encode_dataset(
            bundle.path, tmp_path / "items.csv", tmp_path / "half", token_dtype="float16", **options
        )


def test_a_server_answers_as_in_process(towers: Towers, bundle: Bundle) -> None:
    rows = towers.encode_sparse(ITEMS[:3])
    with (
        Server({"sparse": towers}, HTTP) as server,
        Client(server.address, model="sparse", timeout_s=20) as client,
    ):
        assert client.describe().embedding_form == "vocabulary"
        same = client.encode_sparse(ITEMS[:3], fingerprint=bundle.manifest.fingerprint)
        asked = client.encode_sparse([QUERY], side="query")
        scores = client.score(QUERY, ITEMS[:3]).scores
        with pytest.raises(PairingError, match="answered where sha256:0 did before"):
            client.encode_sparse(["a"], fingerprint="sha256:0")
        with pytest.raises(NotFound, match=r"'sparse'"):
            client.encode(["a"])
        reply = ask(server.http_address, "/embed_sparse", {"inputs": ITEMS[:3]})
        query = ask(server.http_address, "/embed_sparse", {"inputs": QUERY, "prompt_name": "query"})
        other = ask(server.http_address, "/embed_sparse", {"inputs": QUERY, "prompt_name": "passage"})
        one = ask(server.http_address, "/embed_sparse", {"inputs": ITEMS[3], "truncate": True})
    assert isinstance(same, SparseRows)
    np.testing.assert_array_equal(same.to_dense(), rows.to_dense())
    np.testing.assert_allclose(scores, rows.to_dense() @ asked.to_dense()[0], atol=1e-5)
    for body, expected_rows in ((reply.json, rows), (query.json, asked)):
        told = [[(entry["index"], entry["value"]) for entry in text] for text in body]
        assert told == [list(zip(*(part.tolist() for part in row), strict=True)) for row in expected_rows]
    assert other.json["error"] == "prompt_name is 'passage': give query or document"
    assert len(one.json) == 1
