"""Dialects of embeddings and of classification."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rankport.protos.classes import ClassifyResult
from rankport.protos.types import ItemStatus, Usage
from rankport.runtime.scheduling.futures import resolved
from rankport.runtime.server.server import Server
from support.servers.deterministic_models import DeterministicRanker
from support.servers.http import ask
from support.servers.serving import HTTP, Serving


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("ab", ["ab"]),
        (["ab", "c"], ["ab", "c"]),
        ([4, 5], [[4, 5]]),
        ([[4], [5, 6]], [[4], [5, 6]]),
        ([], []),
    ],
)
def test_openai_vectors_are_those_in_process(served: Serving, address: str, given: Any, texts: Any) -> None:
    reply = ask(address, "/v1/embeddings", {"model": "encoder", "input": given}).json
    rows = served.encoder.encode(texts)[:, 0]
    assert [entry["embedding"] for entry in reply["data"]] == rows.tolist()
    assert [entry["index"] for entry in reply["data"]] == list(range(len(texts)))
    assert (reply["object"], reply["model"]) == ("list", "encoder")
    assert reply["usage"]["prompt_tokens"] == sum(map(len, texts))


def test_openai_vectors_in_base64_are_float32(served: Serving, address: str) -> None:
    body = {"model": "encoder", "input": ["ab"], "encoding_format": "base64", "dimensions": 3}
    written = ask(address, "/v1/embeddings", body).json["data"][0]["embedding"]
    row = np.frombuffer(base64.b64decode(written), "<f4")
    assert row.tolist() == served.encoder.encode(["ab"])[0, 0].tolist()


@pytest.mark.parametrize(
    "body",
    [
        {"input": "ab", "input_type": "query"},
        {
            "model": "encoder",
            "input": ["ab"],
            "input_type": "query",
            "truncation": True,
            "output_dtype": None,
        },
    ],
    ids=["nim", "voyage"],
)
def test_a_query_is_read_as_one(served: Serving, address: str, body: dict[str, object]) -> None:
    row = served.encoder.encode(["ab"], side="query")[0, 0].tolist()
    assert row != served.encoder.encode(["ab"])[0, 0].tolist()
    assert ask(address, "/v1/embeddings", body).json["data"][0]["embedding"] == row
    for kind in ("document", None):
        (item,) = ask(address, "/v1/embeddings", body | {"input_type": kind}).json["data"]
        assert item["embedding"] == served.encoder.encode(["ab"])[0, 0].tolist()


def test_voyages_vectors_in_base64_are_float32(served: Serving, address: str) -> None:
    body = {"model": "encoder", "input": ["ab"], "truncation": True, "encoding_format": "base64"}
    reply = ask(address, "/v1/embeddings", body).json
    row = np.frombuffer(base64.b64decode(reply["data"][0]["embedding"]), "<f4")
    assert row.tolist() == served.encoder.encode(["ab"])[0, 0].tolist()
    assert reply["usage"]["total_tokens"] == 2


COHERE = {"model": "encoder", "input_type": "search_document", "texts": ["ab", "c"]}


def test_coheres_vectors_are_those_in_process_in_each_form(served: Serving, address: str) -> None:
    rows = served.encoder.encode(["ab", "c"])[:, 0]
    kinds = ["float", "base64", "binary", "ubinary"]
    answer = ask(address, "/v2/embed", COHERE | {"embedding_types": kinds})
    assert answer.status == 200, answer.text
    given = answer.json["embeddings"]
    assert given["float"] == rows.tolist()
    assert [np.frombuffer(base64.b64decode(row), "<f4").tolist() for row in given["base64"]] == rows.tolist()
    assert given["ubinary"] == [[0b11100000]] * 2
    assert given["binary"] == [[0b11100000 - 128]] * 2
    assert answer.json["texts"] == ["ab", "c"]
    assert answer.json["meta"] == {
        "api_version": {"version": "2"},
        "billed_units": {"input_tokens": 3},
    }
    parts = [{"content": [{"type": "text", "text": text}]} for text in COHERE["texts"]]
    assert ask(address, "/v2/embed", {"model": "encoder", "inputs": parts}).json["embeddings"] == {
        "float": rows.tolist()
    }


def test_coheres_first_version_has_bare_rows_unless_types_are_asked_for(
    served: Serving, address: str
) -> None:
    queries = served.encoder.encode(["ab"], side="query")[:, 0].tolist()
    body = {"texts": ["ab"], "input_type": "search_query"}
    bare, typed = (
        ask(address, "/v1/embed", body | more).json for more in ({}, {"embedding_types": ["float"]})
    )
    assert (bare["response_type"], bare["embeddings"]) == ("embeddings_floats", queries)
    assert (typed["response_type"], typed["embeddings"]) == ("embeddings_by_type", {"float": queries})
    cut = ask(address, "/v1/embed", {"texts": ["x" * 200]})
    assert cut.json["embeddings"] == served.encoder.encode(["x" * 200], truncation="truncate")[:, 0].tolist()


def test_teis_root_is_its_embed(address: str) -> None:
    assert ask(address, "/", {"inputs": ["ab"]}).json == ask(address, "/embed", {"inputs": ["ab"]}).json
    body = {"query": "a", "texts": ["b"]}
    assert ask(address, "/", body).json == ask(address, "/rerank", body).json


def test_tei_vectors_have_length_1_unless_it_is_not_wanted(address: str) -> None:
    (row,) = ask(address, "/embed", {"inputs": "ab"}).json
    assert row == pytest.approx([3**-0.5] * 3)
    assert ask(address, "/embed", {"inputs": ["ab"], "normalize": False}).json == [[195.0] * 3]


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        (
            "/v1/embeddings",
            {"input": "a", "dimensions": 2},
            400,
            "dimensions is 2: 'encoder' makes 3, leave it out",
        ),
        ("/v1/embeddings", {"input": ["a", "bad"]}, 400, "item 1 is 'bad'"),
        ("/v1/embeddings", {"input": "a", "model": "ranker"}, 404, "no model that encodes is named 'ranker'"),
        ("/v1/embeddings", {"input": "x" * 200}, 413, "item 0 is longer than 100"),
        ("/v1/embeddings", {"input": "a", "truncate_prompt_tokens": 3}, 400, "truncate_prompt_tokens is 3"),
        (
            "/v1/embeddings",
            {"input": "a", "truncate_prompt_tokens": -1, "truncate": "END"},
            400,
            "truncate and truncate_prompt_tokens are both given",
        ),
        (
            "/v1/embeddings",
            {"model": "encoder", "input": "a", "truncation": False, "output_dtype": "int8"},
            400,
            '{"detail":"output_dtype is \'int8\'',
        ),
        (
            "/embed",
            {"inputs": "a", "prompt_name": "query"},
            400,
            "prompt_name is 'query', which this server cannot do",
        ),
        ("/v2/embed", {"texts": ["a"]}, 400, '{"message":"model is not set: give it"}'),
        ("/v2/embed", {"model": "encoder"}, 400, "texts and inputs: give one of them"),
        ("/v2/embed", COHERE | {"texts": ["x" * 200], "truncate": "NONE"}, 413, "item 0 is longer than 100"),
        (
            "/v2/embed",
            COHERE | {"truncate": "START"},
            400,
            "truncate is 'START', which this server cannot do",
        ),
        ("/v2/embed", COHERE | {"embedding_types": ["int8"]}, 400, "embedding_types is 'int8', which this"),
        (
            "/v2/embed",
            COHERE | {"images": ["data:"]},
            400,
            "images is ['data:'], which this server cannot do",
        ),
        ("/v2/embed", COHERE | {"max_tokens": 1}, 400, "max_tokens is 1, and this model reads up to"),
        ("/v2/embed", COHERE | {"output_dimension": 2}, 400, "dimensions is 2: 'encoder' makes 3"),
        (
            "/v2/embed",
            {"model": "encoder", "inputs": [{"content": [{"type": "image_url", "image_url": {"url": "a"}}]}]},
            400,
            "inputs[0].content is not one text: give one part with type and text",
        ),
        ("/predict", {"inputs": "a"}, 404, "no model that classifies, and this server has none"),
    ],
)
def test_refusals(address: str, path: str, body: object, status: int, says: str) -> None:
    answer = ask(address, path, body)
    assert answer.status == status
    assert says in answer.text


class Classifying(DeterministicRanker):
    """Classifier that remembers its texts, and gives each the probabilities .25, .5 and .25."""

    capabilities = frozenset({"classifies"})
    texts: Any = None

    def submit_classify(self, texts: Any, prefix: Any, timeout_s: float | None, **_: Any) -> Any:
        self.texts = texts
        count = len(texts)
        result = ClassifyResult(
            labels=("no", "yes", "unsure"),
            probabilities=np.tile(np.array([0.25, 0.5, 0.25], np.float32), (count, 1)),
            logits=np.tile(np.array([-1, 2, -1], np.float32), (count, 1)),
            exclusive=True,
            status=(ItemStatus.OK,) * count,
            messages=("",) * count,
            usage=Usage(0, 0, 1, 0.0, 0.0, 0.0),
            fingerprint="f",
        )
        return resolved(result)


@pytest.fixture(scope="module")
def classifying() -> Iterator[tuple[Classifying, str]]:
    model = Classifying()
    with Server({"classifier": model}, HTTP) as server:
        yield model, server.http_address
    model.close()


@pytest.mark.parametrize(
    ("inputs", "texts"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        (["a", "b"], [("a", "b")]),  # one pair, as text-embeddings-inference reads it
        ([["a"], ["b"]], ["a", "b"]),
        ([["a", "b"], ["c", "d"]], [("a", "b"), ("c", "d")]),
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_tei_predicts_labels_of_texts_and_pairs(
    classifying: tuple[Classifying, str], inputs: Any, texts: Any, raw: bool
) -> None:
    model, address = classifying
    answer = ask(address, "/predict", {"inputs": inputs, "raw_scores": raw})
    reply = answer.json
    best, less = (2.0, -1.0) if raw else (0.5, 0.25)
    row = [
        {"score": best, "label": "yes"},
        {"score": less, "label": "no"},  # equal ones in the order of the model's labels
        {"score": less, "label": "unsure"},
    ]
    assert reply == (row if isinstance(inputs[0], str) else [row] * len(texts))
    assert model.texts == texts
    headers = {name: answer.headers[f"x-rankport-{name}"] for name in ("model", "version", "prompt-tokens")}
    assert headers == {"model": "classifier", "version": "1", "prompt-tokens": "1"}


@pytest.mark.parametrize(
    ("inputs", "says"), [(["a", "b", "c"], "inputs has 3 texts"), ([["a"], []], "inputs[1] has 0 texts")]
)
def test_what_tei_takes_for_no_text_and_no_pair_is_refused(
    classifying: tuple[Classifying, str], inputs: Any, says: str
) -> None:
    answer = ask(classifying[1], "/predict", {"inputs": inputs})
    assert (answer.status, says in answer.text) == (400, True)
