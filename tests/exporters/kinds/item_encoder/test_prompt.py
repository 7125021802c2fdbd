"""The prompt of an item encoder: bare, with a note where a chat template is not used, or the one that is named."""

import shutil
from pathlib import Path

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.prompt import check_item_encoder_prompt, item_encoder_prompt
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Segment


def test_a_chat_template_beside_an_item_encoder_is_noted(encoder_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(encoder_checkpoint, folder)
    source = load_checkpoint(folder, head="none")
    assert item_encoder_prompt(source, ItemEncoderOptions()).notes == ()
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    resolved = item_encoder_prompt(source, ItemEncoderOptions())
    assert resolved.notes == (
        "prompt: the chat template of chat_template.jinja is not used: an item encoder reads bare texts",
    )
    assert resolved.prompt.item == [
        Segment(special=["[BOS]"]),
        Segment(item=True),
        Segment(special=["[EOS]"]),
    ]
    assert item_encoder_prompt(source, ItemEncoderOptions(prompt="bare")).notes == ()


def test_a_prompt_with_a_prefix_is_none_of_an_item_encoder(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="'qwen9' is neither a file nor a preset"):
        check_item_encoder_prompt(tmp_path, ItemEncoderOptions(prompt="qwen9"))
