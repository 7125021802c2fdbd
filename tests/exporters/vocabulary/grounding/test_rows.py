"""New rows as the only parameters of a frozen model, what they learn from, and where they start."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from rankport.exporters.vocabulary.grounding.objective import EncodedPair, text_to_tokens, tokens_to_text
from rankport.exporters.vocabulary.grounding.starts import start_rows, text_means
from rankport.exporters.vocabulary.grounding.trainable_rows import trainable_rows
from rankport.exporters.vocabulary.new_rows import NewRows
from support import checkpoints

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "tied": ("qwen3", {"tie_word_embeddings": True}),
    "untied": ("qwen3", {"tie_word_embeddings": False}),
    # scales what it looks up, caps the logits
    "gemma2": ("gemma2", {"head_dim": 8, "sliding_window": 64, "query_pre_attn_scalar": 16}),
    "biased head": ("phi", {"num_key_value_heads": 4}),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("first", [93, 60])  # at the end of the table, and with padding behind
def test_gradients_are_those_of_the_whole_table_at_the_new_rows(
    family: str, first: int, tmp_path: Path
) -> None:
    model_type, overrides = FAMILIES[family]
    folder = checkpoints.causal_lm(tmp_path, model_type, **overrides)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    rows = NewRows(first, 8, 101, (None,) * 8)
    batch = text_to_tokens(
        [EncodedPair((4, 5, 6), (first, first + 3)), EncodedPair((7,), (first + 1, first))], start=1
    )
    logits = model(input_ids=batch.ids).logits[:, :-1][batch.predicted[:, 1:]]
    wanted = torch.log_softmax(logits, -1)[torch.arange(4), batch.ids[batch.predicted]]
    wanted.sum().backward()
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    whole = {"input": table.grad[first : first + 8].clone()}
    if head is not table:
        whole["output"] = head.grad[first : first + 8].clone()
    with trainable_rows(model, rows) as trainable:
        found = trainable.log_probabilities(batch.ids, batch.mask, batch.predicted)
        found.sum().backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(found.detach(), wanted.detach(), rtol=1e-5, atol=1e-5)
        assert trainable.parameters.keys() == whole.keys()
        for name, parameter in trainable.parameters.items():
            torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-5)
        assert [p for p in model.parameters() if p.requires_grad and p is not trainable.input] == (
            [] if trainable.output is None else [trainable.output]
        )
        with torch.no_grad():
            trainable.input.fill_(0.5)  # the parameter is the table's own memory
    assert torch.all(model.get_input_embeddings().weight[first : first + 8] == 0.5)


def test_both_directions_predict_their_second_part_only() -> None:
    pair = [EncodedPair((4, 5), (90, 91, 92))]
    there, back = text_to_tokens(pair, 1), tokens_to_text(pair, None)
    assert there.ids[there.predicted].tolist() == [90, 91, 92]
    assert there.ids.tolist() == [[1, 4, 5, 90, 91, 92]]
    assert back.ids[back.predicted].tolist() == [4, 5]
    assert back.ids.tolist() == [[90, 91, 92, 4, 5]]


def test_starts_have_the_moments_that_they_say() -> None:
    old = torch.randn(400, 16, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.1
    rows = NewRows(400, 40, 440, (None,) * 40)
    pairs = [EncodedPair((code, code + 40, code + 80), (400 + code,)) for code in range(38)]
    random = start_rows("random", old, rows, pairs, 0)
    assert random.std().item() == pytest.approx(old.std().item(), rel=0.1)
    mean = start_rows("mean", old, rows, pairs, 0)
    torch.testing.assert_close(mean, old.mean(0).expand(40, -1), atol=1e-4, rtol=0)
    grounded = start_rows("grounded", old, rows, pairs, 0)
    apart = (grounded - old.mean(0)).norm(dim=1)
    torch.testing.assert_close(apart[:38], old.var(0, correction=0).sum().sqrt().expand(38))
    torch.testing.assert_close(grounded[38:], mean[38:])  # no text names them
    means, seen = text_means(old, rows, pairs)
    torch.testing.assert_close(means[3], (old[3] + old[43] + old[83]) / 3)
    assert seen.tolist() == [True] * 38 + [False] * 2
