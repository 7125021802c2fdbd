"""Two towers served: features and sides over the wire, and a store filled by the command."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.types import Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.fingerprint import side_fingerprint
from rankport.runtime.config import EngineConfig
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.lifecycle.warming import warm
from rankport.runtime.server.server import Server
from rankport.runtime.store.opening import open_store
from rankport.sdk import AsyncClient, Client, Towers, encode
from support.cli import rankport
from support.servers.deterministic_models import DeterministicRanker
from support.servers.loaded_models import loaded_models

ONE = EngineConfig(threads=1)
ITEMS = ["nurse", "data engineer", "chief cook"]
FEATURES = {"bm25": [1.0, float("nan"), 7.5], "length": [20.0, 150.0, 300.0], "clicks": [0.0, 2.0, -1.0]}
COLUMNS = np.array(list(FEATURES.values()), np.float32).T


@pytest.fixture(scope="module")
def store(wide_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store filled by `rankport encode`."""
    folder = tmp_path_factory.mktemp("store")
    items = folder / "items.jsonl"
    items.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(ITEMS)))
    options = ("--items", items, "--id-column", "id", "--text-column", "text", "--store", folder / "rows")
    result = rankport("encode", "--bundle", wide_bundle.path, *options)
    assert result.returncode == 0, result.stderr
    items.write_text('{"id": "q", "text": "senior nurse"}\n')
    result = rankport("encode", "--bundle", wide_bundle.path, *options, "--side", "query")
    assert result.returncode == 0, result.stderr
    return folder / "rows"


@pytest.fixture(scope="module")
def server(wide_bundle: Bundle, store: Path) -> Iterator[Server]:
    with (
        loaded_models([str(wide_bundle.path)], store, ONE) as models,
        Server({**models, "ranker": DeterministicRanker()}, ServerConfig(port=0)) as running,
    ):
        yield running


def test_the_score_command_takes_features_at_a_server_and_with_a_bundle(
    wide_bundle: Bundle, server: Server, tmp_path: Path
) -> None:
    lines = [
        {"text": text, "features": {name: column[row] for name, column in FEATURES.items()}}
        for row, text in enumerate(ITEMS)
    ]
    lines[1]["features"] |= {"bm25": None}  # type: ignore[operator]
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Towers.load(wide_bundle, config=ONE) as towers:
        expected = towers.rank("senior nurse", ITEMS, features=COLUMNS)
    for source in (("--server", server.address, "--model", "tiny-towers"), ("--bundle", wide_bundle.path)):
        done = rankport("score", *source, "--prefix", "senior nurse", "--items", file, "--format", "json")
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)["items"]
        assert [row["index"] for row in rows] == expected.indices.tolist()
        np.testing.assert_allclose([row["score"] for row in rows], expected.scores, atol=2e-6)


def test_a_client_scores_as_in_process(wide_bundle: Bundle, server: Server) -> None:
    keys = [Key("0"), "data engineer", Key("2")]
    with Towers.load(wide_bundle, config=ONE) as towers, Client(server.address, "tiny-towers") as client:
        expected = towers.score("senior nurse", ITEMS, features=COLUMNS)
        for features in (COLUMNS, FEATURES):
            result = client.score("senior nurse", keys, features=features)
            np.testing.assert_allclose(result.logits, expected.logits, atol=2e-6)
        assert client.submit("senior nurse", ITEMS, features=FEATURES).result(30).score_kind == "logit"
        ranking = client.rank("senior nurse", keys, top_k=1, features=FEATURES)
        assert ranking.indices.tolist() == [int(expected.scores.argmax())]
        for side in ("query", "item"):
            rows = client.encode(ITEMS, side=side)
            np.testing.assert_allclose(rows[:, 0], towers.represent(ITEMS, side=side), atol=1e-6)
        stream = client.encode_stream(enumerate_texts(), side="query")
        np.testing.assert_allclose(
            [text.embeddings for text in stream], client.encode(ITEMS, side="query"), atol=1e-6
        )
        assert client.describe().features == ("bm25", "length", "clicks")


def test_a_query_may_be_stored_or_given(wide_bundle: Bundle, server: Server) -> None:
    with Towers.load(wide_bundle, config=ONE) as towers:
        expected = towers.score("senior nurse", ITEMS, features=FEATURES)
        row = towers.represent(["senior nurse"], side="query")[0]
    with Client(server.address, "tiny-towers") as client:
        for query in (Key("q"), row):
            result = client.score(query, ITEMS, features=FEATURES)
            np.testing.assert_allclose(result.logits, expected.logits, atol=2e-6)
            assert result.usage.prefix_tokens_computed == 0
        with pytest.raises(
            NotFound, match="no query of key 'r' is stored: run `rankport encode --side query`"
        ):
            client.score(Key("r"), ITEMS, features=FEATURES)
        with pytest.raises(InvalidRequest, match=r"prefix: .* \[1, 2\]"):
            client.score(np.ones(2, np.float32), ITEMS, features=FEATURES)


def enumerate_texts() -> Iterator[tuple[str, str]]:
    return ((str(index), text) for index, text in enumerate(ITEMS))


def test_an_async_client_ranks_with_features(server: Server) -> None:
    async def ranked() -> list[int]:
        async with AsyncClient(server.address, "tiny-towers") as client:
            rows = await client.encode(ITEMS, side="item")
            ranking = await client.rank("senior nurse", [*rows[:, 0]], features=FEATURES)
            return ranking.indices.tolist()

    with Client(server.address, "tiny-towers") as client:
        assert asyncio.run(ranked()) == client.rank("senior nurse", ITEMS, features=FEATURES).indices.tolist()


def test_errors_are_those_of_the_model(server: Server) -> None:
    with Client(server.address, "tiny-towers") as client:
        with pytest.raises(InvalidRequest, match=r"features missing length, clicks, unknown x"):
            client.score("nurse", ["a"], features={"bm25": [1.0], "x": [2.0]})
        with pytest.raises(InvalidRequest, match="features are missing: give bm25, length, clicks"):
            client.score("nurse", ["a"])
    with (
        Client(server.address, "ranker") as client,
        pytest.raises(InvalidRequest, match="features: 'ranker' of kind ranker takes none: leave them out"),
    ):
        client.score("nurse", ["a"], features={"bm25": [1.0]})


def test_encode_says_which_bundles_make_tokens(mix_bundle: Bundle, store: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"id": "1", "text": "nurse"}\n')
    with pytest.raises(
        InvalidRequest,
        match="of kind ranker makes no tokens to store: give one of kind item-encoder or two-tower",
    ):
        encode(mix_bundle.path, items, store, id_column="id", text_columns=["text"])


def test_encode_takes_loaded_towers_and_a_server(wide_bundle: Bundle, server: Server, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"id": "1", "text": "nurse"}\n')
    columns = {"id_column": "id", "text_columns": ["text"]}
    with Towers.load(wide_bundle, config=ONE) as towers, Client(server.address, "tiny-towers") as client:
        assert encode(towers, items, tmp_path / "rows", **columns).encoded == 1
        assert encode(client, items, tmp_path / "rows", **columns).unchanged == 1
        assert encode(towers, items, tmp_path / "rows", side="query", **columns).encoded == 1
        assert encode(client, items, tmp_path / "rows", side="query", **columns).unchanged == 1
        with pytest.raises(InvalidRequest, match="side is 'left': give query or item"):
            encode(towers, items, tmp_path / "rows", side="left", **columns)  # type: ignore[arg-type]


def test_queries_of_an_item_encoder_as_towers_are_stored_apart(
    encoder_bundle: Bundle, tmp_path: Path
) -> None:
    items = tmp_path / "items.csv"
    items.write_text("id,text\n1,nurse\n")
    with Towers.load(encoder_bundle) as towers, open_store(tmp_path / "rows", create=True) as store:
        assert encode(towers, items, store, side="query").encoded == 1
        assert list(store.fingerprints()) == [side_fingerprint(towers.fingerprint, "query")]


def test_a_side_of_what_has_one_is_refused(encoder_bundle: Bundle, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"id": "1", "text": "nurse"}\n')
    with pytest.raises(InvalidRequest, match="of kind item-encoder has one side: leave it out"):
        encode(
            encoder_bundle.path, items, tmp_path / "rows", id_column="id", text_columns=["text"], side="query"
        )


def test_a_server_warms_them_up(wide_bundle: Bundle) -> None:
    with Towers.load(wide_bundle, config=ONE) as towers:
        warm(towers, 20.0)
