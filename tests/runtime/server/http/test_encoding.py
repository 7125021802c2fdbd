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
        (
            "/embed",
            {"inputs": "a", "prompt_name": "query"},
            400,
            "prompt_name is 'query', which this server cannot do",
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
        (["a", "b"], ["a", "b"]),
        ([["a"], ["b"]], ["a", "b"]),
        ([["a", "b"], ["c", "d"]], [("a", "b"), ("c", "d")]),
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_tei_predicts_labels_of_texts_and_pairs(
    classifying: tuple[Classifying, str], inputs: Any, texts: Any, raw: bool
) -> None:
    model, address = classifying
    reply = ask(address, "/predict", {"inputs": inputs, "raw_scores": raw}).json
    best, less = (2.0, -1.0) if raw else (0.5, 0.25)
    row = [
        {"score": best, "label": "yes"},
        {"score": less, "label": "no"},  # equal ones in the order of the model's labels
        {"score": less, "label": "unsure"},
    ]
    assert reply == (row if isinstance(inputs, str) else [row] * len(texts))
    assert model.texts == texts
