"""Two-tower folders: what is written is read back, and what has no place is an error by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.protos.errors import CheckpointError
from support.reading.two_towers import BERT, CNN, LSTM, MLP, VOCAB, WIDE, loaded, saved, two_tower


def test_a_saved_module_loads_with_its_weights(tmp_path: Path) -> None:
    module = two_tower(
        towers={"query": BERT, "item": LSTM}, interactions=["dot", "concat"], wide=WIDE, head=MLP
    )
    again = loaded(saved(module, tmp_path / "towers", tokenizer=True))
    assert again.config == module.config
    ids = torch.randint(1, VOCAB, (2, 5))
    for side in ("query", "item"):
        rows = [each.represent(ids, torch.ones_like(ids), side) for each in (module, again)]
        torch.testing.assert_close(rows[0], rows[1])
    source = load_checkpoint(tmp_path / "towers")
    assert (source.head, source.vocab_size, source.hidden_size) == ("towers", VOCAB, 12)
    assert source.parameters == sum(weight.numel() for weight in module.parameters())
    assert StatedModel.read(tmp_path / "towers").head == "towers"


def test_a_pooler_is_left_behind(tmp_path: Path) -> None:
    folder = saved(two_tower(towers={"shared": BERT}), tmp_path / "towers")
    assert not [name for name in load_file(folder / "model.safetensors") if "pooler" in name]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": 3}, "layers: unknown key"),
        ({"towers": {"shared": CNN | {"window": 3}}}, "towers.shared.cnn.window: unknown key"),
        ({"towers": {"query": CNN}}, "towers are ['query']: give shared, or query and item"),
        (
            {"towers": {"query": CNN, "item": CNN | {"filters": 9}}},
            "widths {'query': 12, 'item': 9}: give one a proj",
        ),
        ({"interactions": ["hadamard"]}, "head is null: then interactions is cosine or dot alone"),
        ({"interactions": ["cosine", "cosine"], "head": MLP}, "name one twice"),
        ({"head": MLP | {"positive": 1}}, "head.positive is 1 of 1 outputs"),
        ({"wide": [WIDE[0] | {"std": 0.0}], "head": MLP}, "bm25: is scaled by 0.0, which must be above 0"),
        (
            {"wide": [WIDE[0] | {"std": 1e-50}], "head": MLP},
            "bm25: is scaled by 1e-50, which must be above 0, in",
        ),
        (
            {"wide": [WIDE[0] | {"nan": -1e39}], "head": MLP},
            "bm25: is filled and scaled by up to 1e+39, which is",
        ),
        (
            {"wide": [WIDE[1] | {"min": -3e38, "max": 3e38}], "head": MLP},
            "length: is filled and scaled by up to 6e+38",
        ),
        (
            {"wide": [WIDE[0] | {"max": 3.0}], "head": MLP},
            "scaling mean-std needs mean and std, has mean and std and max",
        ),
        ({"wide": [WIDE[2], WIDE[2]], "head": MLP}, "wide names 'clicks' twice"),
        (
            {"quantization_config": {"quant_method": "gptq"}},
            "quantization 'gptq' of a two-tower is not supported",
        ),
        (
            {"towers": {"shared": {"type": "bert", "body": {"model_type": "bert", "auto_map": {}}}}},
            "body.auto_map is not",
        ),
    ],
)
def test_what_a_config_must_not_say(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    folder = saved(two_tower(), tmp_path / "towers", **fields)
    with pytest.raises(CheckpointError) as error:
        loaded(folder)
    assert message in str(error.value)


def test_a_tensor_without_a_place_and_one_that_is_missing(tmp_path: Path) -> None:
    folder = saved(two_tower(), tmp_path / "towers")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"head.1.weight": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"holds tensor 'head.1.weight', which its config has no place for"
    ):
        loaded(folder)
    bias = "towers.shared.convolutions.0.bias"
    save_file({name: value for name, value in tensors.items() if name != bias}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"lacks tensor '{bias}'"):
        loaded(folder)


def test_the_body_alone_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = saved(two_tower(), tmp_path / "towers")
    with pytest.raises(CheckpointError, match=r"is a two-tower, .* --kind two-tower"):
        load_checkpoint(folder, head="none")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "rankport-two-tower"
