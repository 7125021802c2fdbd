"""The tokens of an item encoder, as options and a sentence-transformers folder state them."""

from pathlib import Path

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.output import output_form
from rankport.protos.errors import CheckpointError, InvalidRequest
from support import checkpoints, sentence_folders


def test_a_pooling_that_no_modules_file_names_is_not_taken(tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "bert")
    sentence_folders.write(
        folder, "1_Pooling/config.json", {"pooling_mode": "cls", "embedding_dimension": 32}
    )
    source = load_checkpoint(folder, head="none")
    with pytest.raises(InvalidRequest, match=r"--pooling last-k .* no modules\.json"):
        output_form(source, ItemEncoderOptions())
    assert output_form(source, ItemEncoderOptions(pooling="max")).pooling == "max"


def test_options_win_over_the_folder(tmp_path: Path) -> None:
    base = checkpoints.body(tmp_path / "base", "bert")
    folder = sentence_folders.pooled(base, tmp_path / "c", ["cls", "mean"], ("Normalize", "2_Normalize"))
    source = load_checkpoint(folder, head="none")
    stated = output_form(source, ItemEncoderOptions())
    assert (stated.poolings, stated.normalize, stated.hidden_size) == (("cls", "mean"), True, 64)
    form = output_form(source, ItemEncoderOptions(pooling="last-k", tokens=3, normalize=False))
    assert (form.poolings, form.tokens, form.normalize, form.hidden_size) == (("last-k",), 3, False, 32)
    with pytest.raises(InvalidRequest, match=r"--tokens goes with --pooling last-k; cls \+ mean makes one"):
        output_form(source, ItemEncoderOptions(tokens=2))


@pytest.mark.parametrize("name", ["word_embedding_dimension", "embedding_dimension"])
def test_a_pooling_of_another_width_is_refused(name: str, tmp_path: Path) -> None:
    folder = sentence_folders.pooled(checkpoints.body(tmp_path / "base", "bert"), tmp_path / "c", ["mean"])
    sentence_folders.change(folder, "1_Pooling/config.json", **{name: 999})
    with pytest.raises(
        CheckpointError, match=f"1_Pooling/config.json: {name} is 999, and the hidden states have 32"
    ):
        output_form(load_checkpoint(folder, head="none"), ItemEncoderOptions())


def test_an_unknown_pooling_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InvalidRequest, match="--pooling is 'sum': use one of last-k, cls, mean, max"):
        ItemEncoderOptions(pooling="sum")  # type: ignore[arg-type]


def test_the_first_token_of_a_decoder_is_no_embedding_of_a_text(tmp_path: Path) -> None:
    """LFM2.5-Embedding is published so: without its code, which reads both ways, all texts had one embedding."""
    folder = checkpoints.body(tmp_path, "qwen3")
    with pytest.raises(CheckpointError, match=r"Qwen3Model reads from left to right, .*is_causal false"):
        output_form(load_checkpoint(folder, head="none"), ItemEncoderOptions(pooling="cls"))
    assert output_form(load_checkpoint(folder, head="none"), ItemEncoderOptions(pooling="mean")).tokens == 1
    sentence_folders.change(folder, "config.json", is_causal=False)
    both_ways = output_form(load_checkpoint(folder, head="none"), ItemEncoderOptions(pooling="cls"))
    assert both_ways.poolings == ("cls",)
