"""Requests that stock clients really sent (`stock_clients.run --record`), replayed: answers have what they read."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.servers.deterministic_models import value
from support.servers.http import ask

SENT = json.loads((Path(__file__).parents[3] / "stock_clients" / "requests.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "sent",
    [sent for sent in SENT if not sent["path"].endswith("completions")],  # those are in test_completions
    ids=lambda sent: sent["path"],
)
def test_a_recorded_request_is_answered_as_its_client_reads_it(address: str, sent: dict[str, Any]) -> None:
    answer = ask(address, sent["path"], sent["body"])
    assert answer.status == 200
    READERS[sent["path"].replace("/v1/rerank", "/rerank")](sent["body"], answer.json)


def read_rerank(body: Any, reply: Any) -> None:
    if "top_k" in body:
        read_results({**body, "top_n": body["top_k"]}, {"results": reply["data"]})
        return
    if "texts" in body:
        # All scores round to 1, and are ranked by their logits.
        assert [entry["index"] for entry in reply] == best_of(body["texts"])[: body.get("top_n") or None]
        return
    assert reply["model"] == "ranker"
    assert reply["usage"]["total_tokens"] > 0
    read_results(body, reply)


def read_results(body: Any, reply: Any) -> None:
    documents, results = body["documents"], reply["results"]
    assert [entry["index"] for entry in results] == best_of(documents)[: body.get("top_n") or None]
    for entry in results:
        assert entry["relevance_score"] == value(body["query"]) + value(documents[entry["index"]])


def best_of(texts: list[str]) -> list[int]:
    return sorted(range(len(texts)), key=lambda index: -value(texts[index]))


def read_rankings(body: Any, reply: Any) -> None:
    assert {entry["index"] for entry in reply["rankings"]} == set(range(len(body["passages"])))
    assert reply["rankings"][0]["logit"] == max(entry["logit"] for entry in reply["rankings"])


def read_embeddings(body: Any, reply: Any) -> None:
    assert [entry["index"] for entry in reply["data"]] == list(range(len(body["input"])))


def read_rows(body: Any, reply: Any) -> None:
    assert len(reply) == (1 if isinstance(body["inputs"], str) else len(body["inputs"]))


def read_cohere(body: Any, reply: Any) -> None:
    rows = reply["embeddings"]["float"] if "embedding_types" in body else reply["embeddings"]
    assert (len(rows), {len(row) for row in rows}) == (len(body["texts"]), {3})


def read_state(_: Any, reply: Any) -> None:
    assert reply.get("live", reply.get("ready")) is True


def read_tensors(_: Any, reply: Any) -> None:
    assert (reply.get("inputs") or reply["input"])[0]["name"] == "prefix"


READERS = {
    "/v2/health/live": read_state,
    "/v2/health/ready": read_state,
    "/v2/models/ranker/ready": read_state,
    "/v2/models/ranker": read_tensors,
    "/v2/models/ranker/config": read_tensors,
    "/v2/embed": read_cohere,
    "/v1/embed": read_cohere,
    "/": read_rows,
    "/rerank": read_rerank,
    "/v2/rerank": read_results,
    "/v1/ranking": read_rankings,
    "/v1/embeddings": read_embeddings,
}
