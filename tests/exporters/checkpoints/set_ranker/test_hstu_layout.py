"""HSTU models in their published layout: layers by their own names, fused or apart, the rest as it is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.set_ranker.hstu_layout import Order, convert_hstu
from rankport.protos.errors import CheckpointError
from support.sets.dumps import COLLECTION, dumped
from support.sets.rankers import set_config, set_model
from support.sets.requests import MOVIE_IDS

STATED = {"attention_scaled": True, "attention_length": 50}
CONFIG = set_config("hstu", "hstu", **STATED)
LAYER = "_hstu_block._attention_layers.{}."


def stored(order: Order, *, fused: bool) -> dict[str, Tensor]:
    """Writes a model's tensors as the layout has them; what is outside of the layers below `other.`."""
    state = {}
    for name, value in set_model(CONFIG).state_dict().items():
        if not name.startswith("blocks.") or ".bias.by_" in name:
            state[f"other.{name}"] = value
            continue
        _, index, part = name.split(".", 2)
        if part.startswith("uvqk") and order == "heads":
            value = torch.cat([value[kind * 16 + head * 8 :][:8] for head in range(2) for kind in range(4)])
        if part in ("uvqk.weight", "out.weight") and fused:
            value = value.T.contiguous()
        own = part.replace("uvqk", "_linear_uvqk").replace("out.", "_linear_proj.")
        own = own.replace("attended_norm.", "_output_layernorm_").replace("norm.", "_input_layernorm_")
        if fused:
            own = own.replace("_linear_uvqk.", "_linear_uvqk_").replace(
                "_linear_proj.weight", "_linear_proj_weight"
            )
        state[LAYER.format(index) + own] = value
    return state


def names(state: dict[str, Tensor]) -> dict[str, str]:
    return {name.removeprefix("other."): name for name in state if name.startswith("other.")}


def saved(folder: Path, content: object) -> Path:
    (folder / "torch_module").mkdir()
    torch.save(content, folder / "torch_module" / "model.0.pth")
    return folder


@pytest.mark.parametrize(("order", "fused"), [("kinds", True), ("kinds", False), ("heads", False)])
def test_every_tensor_finds_its_place(order: Order, fused: bool, tmp_path: Path) -> None:
    state = stored(order, fused=fused)
    model = convert_hstu(saved(tmp_path, {"model_state_dict": state}), CONFIG, names(state), order)
    for name, value in set_model(CONFIG).state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=0, rtol=0)


def test_a_tensor_that_is_left_over_missing_or_of_another_shape_is_named(tmp_path: Path) -> None:
    state = stored("kinds", fused=True)
    known = names(state)
    folder = saved(tmp_path, {"model_state_dict": state})
    with pytest.raises(CheckpointError, match=r"'other\.norm\.bias' has no place"):
        convert_hstu(
            folder, CONFIG, {ours: theirs for ours, theirs in known.items() if ours != "norm.bias"}, "kinds"
        )
    with pytest.raises(CheckpointError, match=r"there is no tensor 'gone'"):
        convert_hstu(folder, CONFIG, known | {"norm.bias": "gone"}, "kinds")
    with pytest.raises(CheckpointError, match=r"nothing is stored for 'blocks.2\."):
        convert_hstu(folder, set_config("hstu", "hstu", "hstu", **STATED), known, "kinds")


def test_a_file_that_needs_code_and_none_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path, {"model_state_dict": set_model(CONFIG)})
    with pytest.raises(CheckpointError, match="needs code to be read, which is never run"):
        convert_hstu(folder, CONFIG, {}, "kinds")
    (folder / "torch_module" / "model.0.pth").unlink()
    with pytest.raises(CheckpointError, match=r"torch_module has no file model\.RANK\.pth"):
        convert_hstu(folder, CONFIG, {}, "kinds")


def test_replicas_of_several_ranks_are_one_model_and_parts_are_refused(tmp_path: Path) -> None:
    state = stored("kinds", fused=True)
    folder = saved(tmp_path, {"model_state_dict": state})
    torch.save({"model_state_dict": state}, folder / "torch_module" / "model.1.pth")
    model = convert_hstu(folder, CONFIG, names(state), "kinds")
    torch.testing.assert_close(model.norm.bias, set_model(CONFIG).norm.bias, atol=0, rtol=0)
    name = LAYER.format(0) + "_linear_uvqk_weight"
    torch.save(
        {"model_state_dict": state | {name: state[name][:, :8]}}, folder / "torch_module" / "model.1.pth"
    )
    with pytest.raises(
        CheckpointError, match=r"model\.1\.pth: tensor '.*_linear_uvqk_weight' is not that of model\.0"
    ):
        convert_hstu(folder, CONFIG, names(state), "kinds")


def test_tables_are_read_from_the_dumps_of_several_ranks(tmp_path: Path) -> None:
    state = stored("kinds", fused=True)
    whole = set_model(CONFIG)
    movies = state.pop("other.tables.movie.weight")
    folder = saved(tmp_path, {"model_state_dict": state})
    dumped(folder / COLLECTION, "video_id", movies, ranks=3)
    known = names(state) | {"tables.movie.weight": "video_id"}
    model = convert_hstu(folder, CONFIG, known, "kinds", scratch=tmp_path)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=0, rtol=0)
    model.save(tmp_path / "checkpoint")
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "checkpoint",
        "dynamicemb_module",
        "torch_module",
    ]
    stated = load_file(tmp_path / "checkpoint" / "model.safetensors")
    torch.testing.assert_close(stated["tables.movie.weight"], movies, atol=0, rtol=0)
    with pytest.raises(CheckpointError, match=r"the dump of table '.*/video_id' has no place"):
        convert_hstu(folder, CONFIG, names(state), "kinds")
    with pytest.raises(CheckpointError, match="there is no tensor 'video'"):
        convert_hstu(folder, CONFIG, known | {"tables.movie.weight": "video"}, "kinds")


def test_ids_of_a_dump_stay_the_ids_of_its_rows(tmp_path: Path) -> None:
    state = stored("kinds", fused=True)
    movies = state.pop("other.tables.movie.weight")
    folder = saved(tmp_path, {"model_state_dict": state})
    dumped(folder / COLLECTION, "video_id", movies, ranks=3, keys=MOVIE_IDS.view(np.int64))
    known = names(state) | {"tables.movie.weight": "video_id"}
    tables = CONFIG.sets.tables
    keyed = tables["movie"].model_copy(update={"lookup": "keys", "ids": "uint64"})
    sets = CONFIG.sets.model_copy(update={"tables": tables | {"movie": keyed}})
    model = convert_hstu(folder, CONFIG.model_copy(update={"sets": sets}), known, "kinds", scratch=tmp_path)
    rows = np.array([4, 49, 0, 4])
    given = {"movie": torch.from_numpy(MOVIE_IDS[rows].view(np.int64)), "rating": torch.ones(4)}
    expected = set_model(CONFIG).event_features({"movie": torch.from_numpy(rows), "rating": torch.ones(4)})
    torch.testing.assert_close(model.event_features(given), expected, atol=0, rtol=0)
    model.save(tmp_path / "checkpoint")
    read = load_checkpoint(tmp_path / "checkpoint").model
    torch.testing.assert_close(read.event_features(given), expected, atol=0, rtol=0)


@pytest.mark.parametrize("field", STATED)
def test_what_no_tensor_tells_has_to_be_said(field: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, {"model_state_dict": {}})
    stated = {name: value for name, value in STATED.items() if name != field}
    with pytest.raises(
        CheckpointError, match=f"{field}: is missing in the config, and no tensor tells it: give"
    ):
        convert_hstu(folder, set_config("hstu", **stated), {}, "kinds")


def test_norms_that_were_not_learned_biases_that_there_are_none_of_and_empty_extra_state_need_no_tensor(
    tmp_path: Path,
) -> None:
    state: dict[str, Tensor | None] = {
        name: value
        for name, value in stored("heads", fused=False).items()
        if "layernorm" not in name and not name.endswith("_linear_uvqk.bias")
    }
    known = names(stored("heads", fused=False))
    for index in (0, 1):
        state[LAYER.format(index) + "_linear_uvqk._extra_state"] = torch.empty(0, dtype=torch.uint8)
        state[LAYER.format(index) + "_linear_proj._extra_state"] = None
    folder = saved(tmp_path, {"model_state_dict": state})
    block = convert_hstu(folder, CONFIG, known, "heads").blocks[1]
    for norm in (block.norm, block.attended_norm):
        assert torch.equal(norm.weight, torch.ones(16))
        assert torch.equal(norm.bias, torch.zeros(16))
    assert torch.equal(block.uvqk.bias, torch.zeros(64))
    state[LAYER.format(1) + "_input_layernorm_weight"] = torch.ones(16)
    torch.save({"model_state_dict": state}, folder / "torch_module" / "model.0.pth")
    with pytest.raises(CheckpointError, match=r"nothing is stored for 'blocks\.1\.norm\.bias'"):
        convert_hstu(folder, CONFIG, known, "heads")
    state[LAYER.format(1) + "_linear_proj._extra_state"] = torch.ones(4, dtype=torch.uint8)
    torch.save({"model_state_dict": state}, folder / "torch_module" / "model.0.pth")
    with pytest.raises(CheckpointError, match="_extra_state' is of no part of HSTU that is known"):
        convert_hstu(folder, CONFIG, known, "heads")
