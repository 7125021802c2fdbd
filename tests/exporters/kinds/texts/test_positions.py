"""How long a text a model reads: by its positions, and by the attention that its graph has."""

from pathlib import Path

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.texts.positions import position_limit, require_within_reach
from rankport.protos.errors import CheckpointError
from support import checkpoints

SPARSE = {"block_size": 4, "num_random_blocks": 2}  # (5 + 2 * 2) * 4 = 36


def test_a_big_bird_is_exported_for_texts_that_it_reads_whole(tmp_path: Path) -> None:
    """Blocks are drawn at random for longer ones, and after a short one none any more."""
    model = load_checkpoint(checkpoints.body(tmp_path / "c", "big_bird", **SPARSE), head="none").model
    assert position_limit(model) == 36
    require_within_reach(model, "--max-item-tokens 36", 36)
    with pytest.raises(
        CheckpointError,
        match=r"--max-item-tokens 37 exceed 36 tokens, .*BigBirdModel's block_sparse .* original_full",
    ):
        require_within_reach(model, "--max-item-tokens 37", 37)


def test_a_big_bird_of_full_attention_is_limited_by_its_positions_alone(tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "big_bird", attention_type="original_full", **SPARSE)
    model = load_checkpoint(folder, head="none").model
    assert position_limit(model) == 128
    with pytest.raises(CheckpointError, match=r"129 exceed the checkpoint's position encodings of 128"):
        require_within_reach(model, "--max-pair-tokens 129", 129)


def test_positions_limit_a_big_bird_of_few_ones(tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "big_bird", max_position_embeddings=20, **SPARSE)
    model = load_checkpoint(folder, head="none").model
    assert position_limit(model) == 20
    with pytest.raises(CheckpointError, match=r"21 exceed the checkpoint's position encodings of 20"):
        require_within_reach(model, "--max-pair-tokens 21", 21)


def test_an_xlnet_has_no_end_of_positions(tmp_path: Path) -> None:
    sizes = {"d_model": 32, "n_layer": 1, "n_head": 4, "d_inner": 48, "d_head": 8}
    assert (
        position_limit(load_checkpoint(checkpoints.body(tmp_path / "c", "xlnet", **sizes), head="none").model)
        is None
    )
