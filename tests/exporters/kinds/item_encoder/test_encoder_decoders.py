"""The encoder of a T5 exports as an item encoder: alone, or out of the whole encoder-decoder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
)

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder

CONFIG = {"vocab_size": 64, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 1, "num_heads": 4}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5") / "whole"
    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(**CONFIG)).save_pretrained(folder)
    return folder


def test_the_decoder_of_a_whole_t5_is_left_out_and_noted(whole: Path, tmp_path: Path) -> None:
    encoder = T5EncoderModel.from_pretrained(whole)
    encoder.save_pretrained(tmp_path)
    of_whole, alone = (load_checkpoint(folder, head="none") for folder in (whole, tmp_path))
    assert [note.split(",")[0] for note in of_whole.notes] == ["left out: decoder"]
    assert alone.notes == ()
    for name, parameter in encoder.named_parameters():
        assert torch.equal(of_whole.model.get_parameter(name), parameter)
        assert torch.equal(alone.model.get_parameter(name), parameter)


def test_the_encoder_of_a_whole_t5gemma_is_its_own(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "head_dim": 8, "num_attention_heads": 4, "num_key_value_heads": 2}
    part = {**sizes, "vocab_size": 64, "num_hidden_layers": 1, "intermediate_size": 48}
    torch.manual_seed(0)
    decoder = {**part, "cross_attention_hidden_size": 32}
    whole = T5GemmaForConditionalGeneration(T5GemmaConfig(encoder=part, decoder=decoder)).eval()
    whole.save_pretrained(tmp_path)
    source, ids = load_checkpoint(tmp_path, head="none"), torch.tensor([[5, 6, 7, 8, 9]])
    assert [note.split(",")[0] for note in source.notes] == ["left out: decoder"]
    with torch.no_grad():
        states = source.model(input_ids=ids).last_hidden_state
        expected = whole.get_encoder()(input_ids=ids).last_hidden_state
    torch.testing.assert_close(states, expected)


def test_texts_of_any_length_are_encoded_as_by_its_own_class(
    whole: Path, exported: Callable[..., Bundle]
) -> None:
    bundle = exported(whole, kind="item-encoder", pooling="mean", output_dtype="float32")
    encoder = T5EncoderModel.from_pretrained(whole).eval()
    texts = [[5, 6, 7, 8, 9] * 9, [3, 4], [7]]
    with ItemEncoder.load(bundle.path) as items, torch.no_grad():
        actual = items.encode(texts)
        for ids, vector in zip(texts, actual, strict=True):
            states = encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]
            np.testing.assert_allclose(vector[0], states.mean(dim=0).numpy(), atol=2e-6)
