"""Our own API as JSON: every form that the gRPC API takes, and the model's answer in process."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from rankport.protos.types import Key
from support.servers.http import ask
from support.servers.serving import Serving

FORMS: Mapping[str, tuple[Any, Any]] = {
    "text": ("ab", "ab"),
    "text object": ({"text": "ab"}, "ab"),
    "token ids": ({"token_ids": [4, 5]}, [4, 5]),
    "embeddings": ({"embeddings": [[0.5, 1.0, 2.0]]}, np.array([[0.5, 1.0, 2.0]], np.float32)),
    "key": ({"key": "k1"}, Key("k1")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("prefix", "given"),
    [
        ("nurse", "nurse"),
        ({"text": "nurse"}, "nurse"),
        ({"fields": {"query": "nurse"}}, {"query": "nurse"}),
        ({"token_ids": [1, 2]}, [1, 2]),
        ({"embeddings": [1.5, 2.5]}, np.array([1.5, 2.5], np.float32)),
        ({"embeddings": [[1.5, 2.5], [3, 4]]}, np.array([[1.5, 2.5], [3, 4]], np.float32)),
        ({"key": "q1"}, Key("q1")),
    ],
)
def test_scores_are_those_in_process(
    served: Serving, address: str, form: str, prefix: object, given: Any
) -> None:
    written, item = FORMS[form]
    body = {"model": "ranker", "prefix": prefix, "items": [written, "x"], "truncation": "truncate"}
    reply = ask(address, "/v1/rankport/score", body).json
    local = served.ranker.score(given, [item, "x"], truncation="truncate", on_missing="skip")
    assert reply["scores"] == local.scores.tolist()
    assert reply["logits"] == local.logits.tolist()
    assert (reply["fingerprint"], reply["score_kind"]) == ("f" * 64, "logit")
    assert (reply["labels"], reply["read_out"]) == (["yes", "no"], "logit of sum")
    assert reply["usage"]["item_tokens"] == 2
    assert reply["outcomes"] == []


def test_an_item_without_a_score_is_null_with_its_reason(address: str) -> None:
    body = {"prefix": "a", "items": [{"key": "missing"}, {"text": "b"}, {"key": "missing", "text": "c"}]}
    reply = ask(address, "/v1/rankport/score", body).json
    assert reply["scores"][0] is None
    assert reply["logits"][0] == [None, None]
    assert reply["scores"][1] == 97 + 98
    missing = {"status": "not_found", "message": "not in the store"}
    assert reply["outcomes"] == [{"index": 0, **missing}]
    assert reply["scores"][2] == 97 + 3.5  # the key counts, its text is for what the store lacks


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"items": [{"text": "a", "token_ids": [1]}]},
            "items[0]: give exactly one of text, token_ids, embeddings, key",
        ),
        ({"items": [{}]}, "items[0]: give exactly one of"),
        ({"items": ["a", [1]]}, "items[1]: Input should be a valid string or an object"),
        ({"items": [{"text": None}]}, "items[0] is null: give it in one of its forms"),
        ({"items": [{"embeddings": [[1.0], [1.0, 2.0]]}]}, "items[0].embeddings has rows of 1 and 2 numbers"),
        ({"prefix": {}}, "prefix: give exactly one of text, fields, token_ids, chat, embeddings, key"),
        ({"prefix": {"embeddings": [[1], [2, 3]]}}, "prefix.embeddings has rows of 1 and 2 numbers"),
        ({"prefix": {"embeddings": [1, [2]]}}, "prefix.embeddings[1]: Input should be a valid number"),
        (
            {"prefix": {"embeddings": [[1, "a"]]}},
            "prefix.embeddings[0][1] is 'a': Input should be a valid number",
        ),
        ({"prefix": {"embeddings": "a"}}, "prefix.embeddings is 'a': Input should be a valid array"),
        ({"prefix": {"field": {}}}, "prefix.field is no field that this server knows: leave it out"),
        ({"prefix": {"text": 5}}, "prefix.text is 5: Input should be a valid string"),
        ({"items": ["a", {"text": 5}]}, "items[1].text is 5: Input should be a valid string"),
        ({"features": {"a": ["x"]}}, "features.a[0] is 'x': Input should be a valid number"),
        ({"features": [[1.0, "x"]]}, "features[0][1] is 'x': Input should be a valid number"),
        ({"features": 5}, "features is 5: Input should be a valid array or an object"),
        ({"truncation": "cut"}, "truncation is 'cut': Input should be 'error' or 'truncate'"),
        ({"features": [[1.0]]}, "features: 'ranker' of kind ranker takes none: leave them out"),
        ({"features": {"a": [1.0, 2.0], "b": [1.0]}}, "features have columns of unequal length"),
        ({"features": [[1.0], [1.0, 2.0]]}, "features has rows of 1 and 2 numbers"),
    ],
)
def test_malformed_requests_are_refused_by_name(address: str, change: dict[str, object], says: str) -> None:
    answer = ask(address, "/v1/rankport/score", {"prefix": "a", "items": ["b"]} | change)
    assert answer.status == 400
    assert says in answer.json["error"]["message"]
