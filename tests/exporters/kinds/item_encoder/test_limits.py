from pathlib import Path

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.item_encoder.limits import item_encoder_limits
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.protos.errors import CheckpointError
from support import checkpoints


def test_positions_that_start_behind_the_padding_id_shorten_the_limit(tmp_path: Path) -> None:
    folder = checkpoints.body(
        tmp_path / "c", "roberta", max_position_embeddings=66, pad_token_id=1, bos_token_id=0
    )
    source = load_checkpoint(folder, head="none")
    assert item_encoder_limits(source, ItemEncoderOptions()).max_item_tokens == 64
    with pytest.raises(CheckpointError, match=r"65 exceed .* 64"):
        item_encoder_limits(source, ItemEncoderOptions(max_item_tokens=65))
