"""Fine-tuning over cached states of frozen layers: packed runs compute what the model does, and learn above alone."""

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from examples.esco.upper_layers import Runs, freeze, lower_states, run_layers

IDS = [[2, 7, 9, 3], [2, 5, 3], [2, 4, 6, 8, 11, 12, 3]]
TYPES = [[0, 0, 1, 1], [0, 0, 1], [0, 0, 0, 1, 1, 1, 1]]
BFLOAT16 = 0.03  # states have a deviation of 1


@pytest.fixture(scope="module")
def body() -> Any:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 3}
    return BertModel(BertConfig(vocab_size=20, **size)).eval()


def own_states(body: Any, text: int) -> torch.Tensor:
    with torch.no_grad():
        states = body(input_ids=torch.tensor([IDS[text]]), token_type_ids=torch.tensor([TYPES[text]]))
    return states.last_hidden_state[0]  # type: ignore[no-any-return]


def upper(body: Any, texts: list[int], first_alone: bool = False) -> Runs:
    lower = lower_states(body, IDS, TYPES, 1)
    return run_layers(body.encoder.layer[1:], lower.of(texts), first_alone)


@pytest.mark.parametrize("texts", [[0, 1, 2], [2, 0], [1]])
def test_texts_run_together_have_the_states_that_the_model_makes(body: Any, texts: list[int]) -> None:
    runs = upper(body, texts)
    assert runs.lengths.tolist() == [len(IDS[text]) for text in texts]
    expected = [own_states(body, text) for text in texts]
    torch.testing.assert_close(runs.states, torch.cat(expected), atol=BFLOAT16, rtol=0)
    torch.testing.assert_close(
        runs.means(), torch.stack([states.mean(0) for states in expected]), atol=BFLOAT16, rtol=0
    )


def test_first_tokens_alone_have_the_same_states(body: Any) -> None:
    expected = torch.stack([own_states(body, text)[0] for text in (2, 1)])
    torch.testing.assert_close(upper(body, [2, 1], first_alone=True).states, expected, atol=BFLOAT16, rtol=0)


def test_upper_layers_learn_and_no_others(body: Any) -> None:
    learning = freeze(body, 1)
    upper(body, [0, 1, 2]).means().square().sum().backward()
    assert [id(weight) for weight in body.parameters() if weight.grad is not None] == [
        id(weight) for weight in learning
    ]
    assert all(weight.grad.abs().sum() > 0 for weight in learning if weight.ndim == 2)
