"""Searches over tries through every interface: what the process finds, gRPC, both clients and the command line find."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, LimitExceeded, NotFound
from rankport.protos.generation import SearchResult
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk import AsyncClient, Client
from support.cli import rankport
from support.servers.http import ask


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, generator_bundle: Bundle) -> Path:
    folder = tmp_path_factory.mktemp("tries")
    rows = np.random.default_rng(0).integers(50, 56, (40, 3)).tolist()
    file = folder / "items.jsonl"
    lines = [json.dumps({"key": f"item {place}", "ids": row}) for place, row in enumerate(rows)]
    file.write_text("\n".join(lines), encoding="utf-8")
    built = rankport("trie", "build", file, "--bundle", generator_bundle.path, "--out", folder / "items")
    assert built.returncode == 0, built.stderr
    assert "40 items" in built.stdout
    return folder


@pytest.fixture(scope="module")
def generator(generator_bundle: Bundle, root: Path) -> Iterator[Generator]:
    config = EngineConfig(threads=1, trie_root=str(root))
    with Generator.load(generator_bundle, config=config) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def server(generator: Generator) -> Iterator[Server]:
    with Server({"finder": generator}, ServerConfig(port=0, http_port=0, grace_s=1.0)) as running:
        yield running


def test_a_search_is_that_of_the_process(server: Server, generator: Generator) -> None:
    async def in_a_loop() -> SearchResult:
        async with AsyncClient(server.address, timeout_s=30.0) as client:
            assert same(
                await generator.asearch("a b", "items", beams=8), generator.search("a b", "items", beams=8)
            )
            return await client.search("a b", "items", beams=8, top_k=5)

    expected = generator.search("a b", "items", beams=8, top_k=5)
    assert len(expected.keys) == 5
    with Client(server.address, timeout_s=30.0) as client:
        found = client.search("a b", "items", beams=8, top_k=5)
        assert same(found, expected)
        assert found.usage.generated_tokens == 3
        assert len(client.search("a b", "items").keys) == 10
    assert same(asyncio.run(in_a_loop()), expected)


@pytest.mark.parametrize("form", ["text", "field", "ids"])
def test_a_search_over_http_is_that_of_the_process(server: Server, generator: Generator, form: str) -> None:
    prompts = {"text": "a b", "field": {"prefix": "a b"}, "ids": [5, 6]}
    written = {"text": "a b", "field": {"fields": {"prefix": "a b"}}, "ids": {"token_ids": [5, 6]}}
    expected = generator.search(prompts[form], "items", beams=8, top_k=5)  # type: ignore[arg-type]
    body = {"prefix": written[form], "trie": "items", "beams": 8, "top_k": 5}
    answer = ask(server.http_address, "/v1/rankport/search", body)
    assert answer.status == 200, answer.text
    told = answer.json
    assert told["keys"] == list(expected.keys)
    assert told["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-5)
    assert told["token_ids"] == expected.token_ids.tolist()
    assert told["usage"]["generated_tokens"] == 3
    assert answer.headers["x-rankport-fingerprint"] == told["fingerprint"] == generator.describe().fingerprint
    assert (
        len(ask(server.http_address, "/v1/rankport/search", {"prefix": "a", "trie": "items"}).json["keys"])
        == 10
    )


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"trie": "none"}, 404, "; there are items"),
        ({"beams": 257}, 400, "beams is 257: give a whole number from 1 to 256"),
        ({"top_k": 0}, 400, "top_k is 0: give a whole number from 1 on"),
        ({"prefix": {"token_ids": []}}, 400, "prefix"),
        ({"prefix": {"text": None}}, 400, "prefix is null: give it in one of its forms"),
        ({"prefix": {"key": "a"}}, 400, "prefix.key is no field that this server knows"),
        ({"model": "other"}, 404, "other"),
        ({"width": 3}, 400, "width is no field of this request: leave it out, it has model, prefix, trie"),
        ({"prefix": {"token_ids": [5] * 5000}}, 413, "5000"),
    ],
)
def test_errors_over_http_are_those_of_the_process(
    server: Server, change: dict[str, object], status: int, told: str
) -> None:
    body = {"prefix": "a", "trie": "items", **change}
    answer = ask(server.http_address, "/v1/rankport/search", body)
    assert (answer.status, told in answer.json["error"]["message"]) == (status, True), answer.text


def test_the_endpoint_is_on_the_page_of_them_all(server: Server) -> None:
    described = ask(server.http_address, "/openapi.json").json
    assert described["paths"]["/v1/rankport/search"]["post"]["summary"] == (
        "rankport: find items by the sequences of a trie"
    )
    assert set(described["components"]["schemas"]["OwnSearch"]["required"]) == {"prefix", "trie"}
    assert "/v1/rankport/search" in ask(server.http_address, "/docs").text


def test_errors_are_those_of_the_process(server: Server, generator: Generator) -> None:
    with Client(server.address, timeout_s=30.0) as client:
        for search in (client.search, generator.search):
            with pytest.raises(NotFound, match=r"trie 'none'.*there are items"):
                search([5], "none")
            with pytest.raises(InvalidRequest, match="beams is 257: give a whole number from 1 to 256"):
                search([5], "items", beams=257)
            with pytest.raises(InvalidRequest, match="top_k is 0"):
                search([5], "items", top_k=0)
            with pytest.raises(LimitExceeded):
                search([5] * 5000, "items")


def test_the_command_finds_with_a_bundle_and_at_a_server(
    server: Server, generator: Generator, generator_bundle: Bundle, root: Path
) -> None:
    expected = generator.search("a b", "items", beams=8, top_k=3)
    flags = ("--beams", "8", "--top-k", "3")
    here = rankport("generate", "a b", "--bundle", generator_bundle.path, "--trie", root / "items", *flags)
    assert here.returncode == 0, here.stderr
    assert [line.split("\t")[1] for line in here.stdout.splitlines()] == list(expected.keys)
    there = rankport("generate", "a b", "--server", server.address, "--trie", "items", *flags, "--json")
    told = json.loads(there.stdout)
    assert told["keys"] == list(expected.keys)
    assert told["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-5)
    wrong = rankport("generate", "a", "--server", server.address, "--trie", "items", "--temperature", "1")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def same(ours: SearchResult, theirs: SearchResult) -> bool:
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
    np.testing.assert_array_equal(ours.token_ids, theirs.token_ids)
    return ours.keys == theirs.keys
