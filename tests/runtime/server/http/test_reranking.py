"""Dialects of reranking: each gives what the model gives in process, in its own words."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from rankport.protos.errors import Overloaded
from rankport.protos.versions import AliasTarget
from rankport.runtime.server.lifecycle.orders import AliasOrder
from support.servers.deterministic_models import value
from support.servers.http import Answer, ask
from support.servers.serving import HTTP, Serving, serving

QUERY, TEXTS = "nurse", ["welder", "nurse", "ab"]
SCORES = {index: value(QUERY) + value(text) for index, text in enumerate(TEXTS)}
BEST = sorted(SCORES, key=lambda index: -SCORES[index])


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def answered(address: str, path: str, body: object) -> Any:
    answer = ask(address, path, body)
    assert answer.status == 200, answer.text
    return answer.json


def refused(answer: Answer, status: int = 400) -> str:
    assert answer.status == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.text


def test_cohere(address: str) -> None:
    body = {"model": "ranker", "query": QUERY, "documents": TEXTS, "top_n": 2, "max_tokens_per_doc": 4096}
    reply = answered(address, "/v2/rerank", body)
    assert reply["results"] == [{"index": i, "relevance_score": SCORES[i]} for i in BEST[:2]]
    assert reply["meta"]["billed_units"] == {"search_units": 1}
    assert reply["meta"]["tokens"] == {"input_tokens": 1 + 2 + 3}
    assert (reply["model"], reply["score_kind"]) == ("ranker", "logit")
    (best,) = answered(address, "/v2/rerank", body | {"return_documents": True, "top_n": 1})["results"]
    assert best["document"] == {"text": TEXTS[BEST[0]]}


@pytest.mark.parametrize("top", [None, 2])
def test_voyage(address: str, top: int | None) -> None:
    body = {"model": "ranker", "query": QUERY, "documents": TEXTS, "top_k": top, "truncation": True}
    reply = answered(address, "/v1/rerank", body)
    assert reply["data"] == [{"index": i, "relevance_score": SCORES[i]} for i in BEST[:top]]
    assert (reply["object"], reply["model"], reply["usage"]["total_tokens"]) == ("list", "ranker", 6)
    (best,) = answered(address, "/v1/rerank", body | {"return_documents": True, "top_k": 1})["data"]
    assert best["document"] == TEXTS[BEST[0]]
    assert ask(address, "/v1/rerank", body | {"model": "no"}).json == {
        "detail": "no model that scores is named 'no'; this server has ranker"
    }


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
@pytest.mark.parametrize("top_n", [None, 0, 1])
def test_jina_and_vllm(address: str, path: str, top_n: int | None) -> None:
    documents = [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]
    reply = answered(
        address, path, {"query": QUERY, "documents": documents, "top_n": top_n, "request_id": "r7"}
    )
    assert reply["results"] == [
        {"index": i, "relevance_score": SCORES[i], "document": {"text": TEXTS[i]}}
        for i in BEST[: top_n or None]
    ]
    assert reply["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert (reply["id"], reply["model"], reply["score_kind"]) == ("r7", "ranker", "logit")


def test_jina_documents_are_left_out_where_they_are_not_wanted(address: str) -> None:
    body = {"query": QUERY, "documents": TEXTS, "return_documents": False}
    assert all("document" not in result for result in answered(address, "/v1/rerank", body)["results"])


def test_an_activation_gives_probabilities(address: str) -> None:
    body = {"query": "", "documents": ["", "\x01"], "use_activation": True}
    reply = answered(address, "/v1/rerank", body)
    assert [result["relevance_score"] for result in reply["results"]] == pytest.approx([sigmoid(1), 0.5])
    assert reply["score_kind"] == "probability"


@pytest.mark.parametrize("raw", [True, False])
def test_tei(address: str, raw: bool) -> None:
    body = {"query": "", "texts": ["\x01", "\x03"], "raw_scores": raw, "return_text": True}
    answer = ask(address, "/rerank", body)
    assert ask(address, "/rerank", body | {"top_n": 1}).json == answer.json[:1]
    first, second = answer.json
    assert (first["index"], first["text"], second["index"]) == (1, "\x03", 0)
    assert first["score"] == pytest.approx(3 if raw else sigmoid(3))
    assert answer.headers["x-rankport-score-kind"] == ("logit" if raw else "probability")
    assert answer.headers["x-rankport-model"] == "ranker"


NIM = {"query": {"text": QUERY}, "passages": [{"text": text} for text in TEXTS], "truncate": "END"}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/ranking", {}),
        ("/v1/retrieval/nvidia/reranking", {"model": "ranker"}),
        ("/v1/retrieval/nvidia/reranking", {}),
        ("/v1/retrieval/nvidia/ranker/reranking", {}),
        ("/v1/retrieval/nvidia/ranker/reranking", {"model": "ranker@1"}),
        ("/v1/retrieval/nvidia/rank-3_2-1b/reranking", {}),  # an alias, as NVIDIA writes its names in paths
        ("/v1/retrieval/nvidia/rank-3_2-1b/reranking", {"model": "nvidia/rank-3.2-1b"}),
    ],
)
def test_nim(served: Serving, address: str, path: str, named: dict[str, str]) -> None:
    served.server.take(AliasOrder("nvidia/rank-3.2-1b", (AliasTarget("ranker@1"),))).result()
    reply = answered(address, path, NIM | named)
    served.server.take(AliasOrder("nvidia/rank-3.2-1b", ())).result()
    assert reply["rankings"] == [{"index": i, "logit": SCORES[i]} for i in BEST]


def test_a_path_of_nvidia_and_a_body_that_name_two_models_are_refused(address: str) -> None:
    told = refused(ask(address, "/v1/retrieval/nvidia/other/reranking", NIM | {"model": "ranker"}))
    assert "model is 'ranker', and the path names 'nvidia/other': name one of them" in told
    assert "named 'other'" in refused(ask(address, "/v1/retrieval/nvidia/other/reranking", NIM), 404)


@pytest.mark.parametrize(
    ("sides", "pairs"),
    [
        ({"text_1": "a", "text_2": ["b", "c"]}, ["ab", "ac"]),
        ({"text_1": ["a", "b", "a"], "text_2": ["c", "d", "e"]}, ["ac", "bd", "ae"]),
        ({"queries": ["a"], "documents": "b"}, ["ab"]),
        ({"queries": "a", "items": ["b", "c"]}, ["ab", "ac"]),
        ({"data_1": "a", "data_2": []}, []),
    ],
)
def test_vllm_score(address: str, sides: dict[str, object], pairs: list[str]) -> None:
    reply = answered(address, "/v1/score", {"model": "ranker", **sides})
    assert reply["data"] == [
        {"index": index, "object": "score", "score": value(pair)} for index, pair in enumerate(pairs)
    ]
    assert (reply["object"], reply["model"]) == ("list", "ranker")


def test_pairs_of_more_queries_than_the_queue_takes_are_all_scored() -> None:
    """An idle server that refused them, as overloaded, would refuse them again for ever."""
    queries = [chr(ord("a") + place % 26) * (1 + place // 26) for place in range(200)]
    with serving(replace(HTTP, score_stream_window=2), max_queued=2) as served:
        served.ranker.worker.gate.clear()
        with ThreadPoolExecutor() as threads:
            body = {"text_1": queries, "text_2": ["b"] * len(queries)}
            asked = threads.submit(answered, served.server.http_address, "/score", body)
            for _ in range(2):
                assert served.ranker.worker.arrived.acquire(timeout=10)
            served.ranker.worker.gate.set()
            reply = asked.result()
    assert [entry["score"] for entry in reply["data"]] == [value(f"{query}b") for query in queries]


def test_the_body_tells_the_dialects_of_one_path_apart(address: str) -> None:
    assert isinstance(answered(address, "/rerank", {"query": '"documents":', "texts": ["a"]}), list)
    assert isinstance(answered(address, "/rerank", {"query": '"texts":', "documents": ["a"]}), dict)
    both = ask(address, "/rerank", {"query": "a", "documents": [], "texts": []})
    assert "texts is no field of this request" in refused(both)


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        (
            "/v2/rerank",
            {"priority": 5},
            "priority is 5, which this server cannot do: leave it out, header x-priority",
        ),
        (
            "/v2/rerank",
            {"max_tokens_per_doc": 10},
            "max_tokens_per_doc is 10, and this model reads up to 100",
        ),
        ("/v2/rerank", {"top_n": 0}, "top_n is 0: Input should be greater than or equal to 1"),
        ("/v2/rerank", {"rank_fields": ["text"]}, "rank_fields is no field of this request: leave it out"),
        ("/v1/rerank", {"priority": 1}, "priority is 1"),
        ("/v1/rerank", {"truncate_prompt_tokens": 5}, "truncate_prompt_tokens is 5: give -1"),
        ("/v1/rerank", {"truncation_side": "left"}, "truncation_side is 'left', which this server cannot do"),
        ("/v1/rerank", {"max_tokens_per_doc": 7}, "max_tokens_per_doc is 7, which this server cannot do"),
        ("/v1/rerank", {"documents": [{"image": "x"}]}, "documents[0]"),
        ("/v1/rerank", {"documents": ["a", 1]}, "documents[1] is 1: Input should be a valid string"),
        ("/v1/rerank", {"documents": None}, "documents is None: Input should be a valid array"),
        ("/v1/rerank", {"query": None}, "query is None: Input should be a valid string"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    address: str, path: str, change: dict[str, object], says: str
) -> None:
    body = {"model": "ranker", "query": "a", "documents": ["b"]} | change
    assert says in refused(ask(address, path, body))


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (
            "/rerank",
            {"query": "a", "texts": ["b"], "truncation_direction": "Left"},
            "truncation_direction is 'Left', which this server cannot do",
        ),
        ("/rerank", {"query": "a", "texts": "b"}, "texts is 'b': Input should be a valid array"),
        ("/v1/ranking", {"query": "a", "passages": []}, "query is 'a': Input should be an object"),
        ("/v1/ranking", {"query": {"text": "a"}}, "passages is not set: give it"),
        ("/score", {"text_1": "a"}, "give both text_1 and text_2"),
        ("/score", {"text_1": "a", "documents": "b"}, "give text_1 and text_2, or queries and documents"),
        ("/score", {"text_1": ["a", "b"], "text_2": ["c"]}, "text_1 has 2 texts and text_2 1: give one"),
    ],
)
def test_malformed_requests_are_refused_by_name(address: str, path: str, body: object, says: str) -> None:
    assert says in refused(ask(address, path, body))


def test_each_dialect_has_its_own_words_for_an_error(address: str) -> None:
    unknown = {"model": "other", "query": "a", "documents": []}
    message = "no model that scores is named 'other'; this server has ranker"
    assert ask(address, "/v2/rerank", unknown).json == {"message": message}
    error = {"message": message, "type": "NotFound", "param": None, "code": 404}
    assert ask(address, "/v1/rerank", unknown).json == {"error": error}
    tei = ask(address, "/rerank", {"query": "a", "texts": [1]})
    assert tei.json["error_type"] == "validation"
    nim = ask(address, "/v1/ranking", {"model": "other", "query": {"text": "a"}, "passages": []})
    assert (nim.status, nim.json["message"], nim.json["object"]) == (404, message, "error")
    assert nim.headers["rankport-error"] == "NotFound"


def test_a_refusal_before_the_body_is_read_has_the_words_of_all_dialects_of_its_path(address: str) -> None:
    given = {"content-type": "text/plain"}
    voyage_or_jina = ask(address, "/v1/rerank", {}, given).json
    assert voyage_or_jina["detail"] == voyage_or_jina["error"]["message"]
    tei_or_jina = ask(address, "/rerank", {}, given).json
    assert (tei_or_jina["error_type"], tei_or_jina["error"]["code"]) == ("validation", 400)


def test_a_path_of_rankers_and_encoders_is_open_while_one_of_them_has_room(
    served: Serving, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Overloaded("full")

    monkeypatch.setattr(served.encoder, "check_room", full)
    assert ask(address, "/embed", {"inputs": "a"}).status == 429
    assert ask(address, "/", {"query": "a", "texts": ["b"]}).status == 200


def test_sglang_needs_labels_that_are_tokens(served: Serving, address: str) -> None:
    body = {"query": "a", "items": ["b"], "label_token_ids": [4]}
    assert "apply_softmax is false" in refused(ask(address, "/v1/score", body))
    body["apply_softmax"] = True
    assert "the labels of 'ranker' are no tokens" in refused(ask(address, "/v1/score", body))
    assert "item_first is True" in refused(ask(address, "/v1/score", body | {"item_first": True}))
