"""SGLang's score: probabilities among the labels that are asked for, of a model whose labels are tokens."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from rankport.protos.types import ModelDescription
from rankport.runtime.server.server import Server
from support.servers.deterministic_models import DeterministicRanker, value
from support.servers.http import ask
from support.servers.serving import HTTP


class TokenRanker(DeterministicRanker):
    """Ranker whose labels yes and no are tokens 7 and 9: their logits are the sum, and 5.4 for the options."""

    def describe(self) -> ModelDescription:
        return replace(super().describe(), label_token_ids=(7, 9))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    ranker = TokenRanker()
    with Server({"ranker": ranker}, HTTP) as server:
        yield server.http_address
    ranker.close()


@pytest.mark.parametrize("query", ["\x01", [1]])
@pytest.mark.parametrize("labels", [[7, 9], [9, 7], [7]])
def test_scores_are_the_softmax_of_the_labels_asked_for(
    address: str, query: object, labels: list[int]
) -> None:
    items = ["\x03", "\x05"] if isinstance(query, str) else [[3], [5]]
    body = {"query": query, "items": items, "label_token_ids": labels, "apply_softmax": True}
    reply = ask(address, "/v1/score", body).json
    for item, row in zip(items, reply["scores"], strict=True):
        logits = {7: 1 + value(item), 9: 5.4}
        weights = [2.718281828459045 ** logits[label] for label in labels]
        assert row == pytest.approx([weight / sum(weights) for weight in weights])
    assert (reply["object"], reply["model"]) == ("scoring", "ranker")
    assert reply["usage"]["prompt_tokens"] == 1 + 2 + 2


def test_tokens_that_are_no_labels_are_refused_with_those_that_are(address: str) -> None:
    body = {"query": "a", "items": "b", "apply_softmax": True}
    answer = ask(address, "/v1/score", body | {"label_token_ids": [7, 8]})
    assert answer.status == 400
    assert "label_token_ids is 7, 8: the labels of 'ranker' are 7 (yes), 9 (no)" in answer.text
    answer = ask(address, "/v1/score", body | {"label_token_ids": [7, 9, 7]})
    assert (answer.status, "label_token_ids has 7 twice: give each label once" in answer.text) == (400, True)
