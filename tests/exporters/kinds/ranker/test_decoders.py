"""Which checkpoints are rankers, told before any weight is read."""

from pathlib import Path

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.kinds.ranker.decoders import is_decoder, require_decoder
from rankport.protos.errors import CheckpointError
from support import checkpoints


@pytest.mark.parametrize("model_type", ["xlm-roberta", "bert", "deberta-v2"])
def test_an_encoder_with_a_head_is_no_ranker_and_its_kinds_are_named(model_type: str, tmp_path: Path) -> None:
    folder = checkpoints.classifier(tmp_path / "c", model_type, num_hidden_layers=1)
    with pytest.raises(
        CheckpointError, match=r"has a head named 'classifier', .*: --kind cross-encoder scores pairs"
    ):
        require_decoder(folder, None)
    assert not is_decoder(StatedModel.read(folder))
    assert load_checkpoint(folder).head == "classification_head"
    assert load_checkpoint(folder, head="none").notes[0].startswith("left out: classifier")


def test_a_decoder_with_a_head_is_one(tmp_path: Path) -> None:
    folder = checkpoints.classifier(tmp_path / "c", "qwen2", num_hidden_layers=1)
    require_decoder(folder, None)
    assert is_decoder(StatedModel.read(folder))
