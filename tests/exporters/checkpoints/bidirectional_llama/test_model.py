"""NVIDIA's Llama that reads both ways: states of unmasked attention, pooled as the published code pools them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.protos.errors import CheckpointError
from support import checkpoints

CLASSIFIER, BODY = "LlamaBidirectionalForSequenceClassification", "LlamaBidirectionalModel"
IDS = torch.tensor([[5, 9, 17, 4, 33]])


def states_without_a_mask(folder: Path) -> torch.Tensor:
    """States of transformers' Llama of the same weights, given a mask in which all see all. [1, tokens, width]"""
    raw = json.loads((folder / "config.json").read_text())
    fields = {
        name: value
        for name, value in raw.items()
        if name not in ("is_causal", "pooling", "temperature", "architectures", "auto_map", "model_type")
    }
    llama = transformers.LlamaModel(transformers.LlamaConfig(**fields, attn_implementation="eager")).eval()
    stored = load_file(folder / "model.safetensors")
    body = {name.removeprefix("model."): tensor for name, tensor in stored.items() if name != "score.weight"}
    llama.load_state_dict(body)
    everything = torch.zeros(1, 1, IDS.shape[1], IDS.shape[1])
    with torch.no_grad():
        return llama(input_ids=IDS, attention_mask=everything).last_hidden_state


def test_its_tokens_see_each_other_both_ways(tmp_path: Path) -> None:
    source = load_checkpoint(checkpoints.bidirectional_llama(tmp_path, BODY), head="none")
    expected = states_without_a_mask(tmp_path)
    with torch.no_grad():
        states = source.model(input_ids=IDS).last_hidden_state
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=0)
    assert source.notes == (
        "config.json: auto_map names code for llama_bidirec, which was not run: reading both ways, pooling and "
        "temperature are those of the published llama-nemotron models",
    )


@pytest.mark.parametrize("pooling", ["avg", "cls", "last"])
def test_its_head_reads_what_is_pooled_and_divides_by_the_temperature(pooling: str, tmp_path: Path) -> None:
    folder = checkpoints.bidirectional_llama(
        tmp_path, CLASSIFIER, pooling=pooling, temperature=0.25, num_labels=1
    )
    model = load_checkpoint(folder).model
    states = states_without_a_mask(folder)[0].numpy()
    pooled = {"avg": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
    expected = model.score.weight.numpy() @ pooled / 0.25
    with torch.no_grad():
        alone = model(input_ids=IDS).logits[0]
        ids = torch.full((2, 8), 7)
        ids[0, :5], ids[1, 3:] = IDS, IDS  # padded at its end, and before it
        padded = model(input_ids=ids, attention_mask=(torch.arange(8) < 5).long().expand(2, 8).clone())
        behind = torch.stack([torch.arange(8) < 5, torch.arange(8) >= 3]).long()
        both = model(input_ids=ids, attention_mask=behind).logits
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    np.testing.assert_allclose(both, np.stack([expected, expected]), atol=1e-5)
    np.testing.assert_allclose(padded.logits[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"pooling": "max"}, r"pooling is 'max', must be one of avg, cls, last"),
        ({"temperature": 0.0}, r"temperature is 0\.0, by which logits are divided: must be above 0"),
        ({"is_causal": True}, r"is_causal is true, and llama_bidirec reads both ways"),
        ({"poolling": "avg"}, r"field 'poolling' is 'avg', .*is 'pooling' meant"),
    ],
    ids=["pooling", "temperature", "direction", "a slip"],
)
def test_what_the_published_code_does_not_compute_is_refused(
    field: dict[str, object], said: str, tmp_path: Path
) -> None:
    folder = checkpoints.bidirectional_llama(tmp_path, CLASSIFIER)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | field))
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(folder)


def test_a_head_that_it_has_not_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.bidirectional_llama(tmp_path, BODY)
    config = folder / "config.json"
    raw = json.loads(config.read_text()) | {"architectures": ["LlamaBidirectionalForCausalLM"]}
    config.write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="reads both ways, has no lm_head: its classes are Llama"):
        load_checkpoint(folder)
