"""Options that dialects ask of a model: the cut of long texts, a version, and what is left out under pressure."""

import json
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from llguidance import LLMatcher, LLTokenizer

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ItemStatus, ScoreResult
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.http.dialects.completions import OpenAiCompletions
from rankport.runtime.server.server import Server
from support.servers.deterministic_models import DeterministicRanker
from support.servers.http import ask


class Remembering(DeterministicRanker):
    """Ranker that remembers what was asked, and leaves out the items behind its `depth`."""

    depth: int | None = None
    truncation = ""
    refused_query = ""

    def submit(self, *given: Any, **options: Any) -> "Future[ScoreResult]":
        if given[0] == self.refused_query:
            raise InvalidRequest("item 0 is odd")
        self.truncation = options["truncation"]
        return converted(super().submit(*given, **options), self._cut)

    def _cut(self, result: ScoreResult) -> ScoreResult:
        if self.depth is None:
            return result
        scores = result.scores.copy()
        scores[self.depth :] = np.nan
        skipped = (ItemStatus.SKIPPED,) * (len(scores) - self.depth)
        return replace(result, scores=scores, status=result.status[: self.depth] + skipped, depth=self.depth)


@pytest.fixture(scope="module", params=[False, True], ids=["fail", "cut"])
def remembering(request: pytest.FixtureRequest) -> Iterator[tuple[Remembering, str, bool]]:
    model = Remembering()
    config = ServerConfig(port=0, http_port=0, http_truncate=request.param)
    with Server({"ranker": model}, config) as server:
        yield model, server.http_address, request.param
    model.close()


JINA = {"query": "a", "documents": ["b", "c"]}
TEI = {"query": "a", "texts": ["b", "c"]}
NIM = {"query": {"text": "a"}, "passages": [{"text": "b"}, {"text": "c"}]}
VOYAGE = JINA | {"model": "ranker", "top_k": None}
SCORE = {"text_1": "a", "text_2": ["b", "c"]}


@pytest.mark.parametrize(
    ("path", "body", "cut"),
    [
        ("/rerank", JINA, None),
        ("/rerank", JINA | {"truncate_prompt_tokens": -1}, True),
        ("/rerank", TEI, None),
        ("/rerank", TEI | {"truncate": True}, True),
        ("/rerank", TEI | {"truncate": False}, False),
        ("/v1/ranking", NIM, None),
        ("/v1/ranking", NIM | {"truncate": "END"}, True),
        ("/v1/ranking", NIM | {"truncate": "NONE"}, False),
        ("/score", SCORE, None),
        ("/score", SCORE | {"truncate_prompt_tokens": -1}, True),
        ("/v2/rerank", {"model": "ranker", **JINA}, True),
        ("/v1/rerank", VOYAGE, True),
        ("/v1/rerank", VOYAGE | {"truncation": False}, False),
        ("/v1/rankport/score", {"prefix": "a", "items": ["b"]}, False),
    ],
)
def test_long_texts_are_cut_as_the_request_says_or_else_the_server(
    remembering: tuple[Remembering, str, bool], path: str, body: object, cut: bool | None
) -> None:
    model, address, by_default = remembering
    assert ask(address, path, body).status == 200
    assert model.truncation == ("truncate" if (by_default if cut is None else cut) else "error")


def test_items_left_out_under_pressure_are_not_ranked_and_refused_where_all_are_read(
    remembering: tuple[Remembering, str, bool],
) -> None:
    model, address, _ = remembering
    model.depth = 1
    try:
        jina = ask(address, "/rerank", JINA)
        assert [entry["index"] for entry in jina.json["results"]] == [0]
        assert jina.headers["x-rankport-depth"] == "1"
        cohere = ask(address, "/v2/rerank", JINA | {"model": "ranker"}).json
        assert cohere["meta"]["warnings"] == ["only documents[:1] are ranked: the server is under pressure"]
        assert [entry["index"] for entry in ask(address, "/v1/ranking", NIM).json["rankings"]] == [0]
        for path, body in (("/rerank", TEI), ("/score", SCORE)):
            answer = ask(address, path, body)
            assert (answer.status, answer.headers["rankport-error"]) == (429, "Overloaded")
            assert "1 of 2 items were left out under pressure" in answer.text
        own = ask(address, "/v1/rankport/score", {"prefix": "a", "items": ["b", "c"]}).json
        assert own["scores"] == [97 + 98, None]
        assert own["outcomes"][0]["status"] == "skipped"
    finally:
        model.depth = None
    assert "x-rankport-depth" not in ask(address, "/rerank", JINA).headers


def test_a_version_is_asked_by_its_name(remembering: tuple[Remembering, str, bool]) -> None:
    _, address, _ = remembering
    answer = ask(address, "/rerank", JINA | {"model": "ranker@1"})
    assert (answer.status, answer.headers["x-rankport-version"]) == (200, "1")
    unknown = ask(address, "/rerank", JINA | {"model": "ranker@2"})
    assert (unknown.status, unknown.headers["rankport-error"]) == (404, "NotFound")


def test_of_pairs_the_place_of_the_one_at_fault_is_told(remembering: tuple[Remembering, str, bool]) -> None:
    model, address, _ = remembering
    model.refused_query = "c"
    try:
        answer = ask(address, "/score", {"text_1": ["a", "b", "a", "c"], "text_2": ["x"] * 4})
    finally:
        model.refused_query = ""
    assert (answer.status, answer.json["error"]["message"]) == (400, "item 3 is odd")


def test_texts_to_choose_of_are_a_pattern_of_these_texts() -> None:
    texts = ["a.b", "(c)", "d e\n", r"\d+", "[x]{2}", "é|^$", "a-b#&~'\"/"]
    asked = {"prompt": "", "structured_outputs": {"choice": texts}}
    pattern = OpenAiCompletions.model_validate_json(json.dumps(asked)).sampling().regex
    grammar, tokenizer = LLMatcher.grammar_from_regex(pattern), LLTokenizer("byte")
    for text, is_one in [*((text, True) for text in texts), ("axb", False), ("1", False), ("", False)]:
        matcher = LLMatcher(tokenizer, grammar, log_level=0)
        taken = all(matcher.consume_token(byte) for byte in text.encode())
        assert (taken and matcher.is_accepting()) == is_one, text
