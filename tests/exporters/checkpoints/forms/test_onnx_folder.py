"""What of an ONNX folder is read, and what is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from transformers import RobertaConfig, RobertaModel

from rankport.exporters.checkpoints.checkpoint import checkpoint_sha256, load_checkpoint
from rankport.exporters.checkpoints.config.positions import unused_positions
from rankport.exporters.checkpoints.forms.onnx_model import OnnxModel
from rankport.protos.errors import CheckpointError
from support.reading.onnx_folders import onnx_folder


@pytest.fixture(scope="module")
def source(encoder_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_folder(encoder_checkpoint, tmp_path_factory.mktemp("onnx") / "folder")


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    return shutil.copytree(source, tmp_path / "folder")


def test_its_forward_is_that_of_the_checkpoint_and_its_facts_those_of_graph_and_config(
    folder: Path, encoder_checkpoint: Path
) -> None:
    loaded, original = load_checkpoint(folder, head="none"), load_checkpoint(encoder_checkpoint, head="none")
    assert isinstance(loaded.model, OnnxModel)
    assert (loaded.vocab_size, loaded.hidden_size) == (original.vocab_size, original.hidden_size)
    assert (loaded.dtype, loaded.head, loaded.tokenizer_file) == (
        "float32",
        "none",
        folder / "tokenizer.json",
    )
    # Without the pooler, and with constants of the tracer's.
    assert 0 < original.parameters - loaded.parameters < 2000
    ids, mask = torch.tensor([[5, 9, 17, 0], [5, 6, 7, 8]]), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    with torch.no_grad():
        expected = original.model(input_ids=ids, attention_mask=mask).last_hidden_state
    actual = loaded.model(ids, mask).last_hidden_state
    torch.testing.assert_close(actual[0, :3], expected[0, :3], atol=1e-5, rtol=0)
    torch.testing.assert_close(actual[1], expected[1], atol=1e-5, rtol=0)


def test_a_byte_of_the_graph_is_another_checkpoint(folder: Path, source: Path) -> None:
    assert checkpoint_sha256(folder) == checkpoint_sha256(source)
    model = ir.load(folder / "model.onnx")
    model.producer_version = "another"
    ir.save(model, folder / "model.onnx")
    assert checkpoint_sha256(folder) != checkpoint_sha256(source)


def test_weights_in_a_file_beside_the_graph_are_read_and_hashed(folder: Path) -> None:
    ids = torch.tensor([[5, 9, 17]])
    inside = load_checkpoint(folder, head="none")
    ir.save(ir.load(folder / "model.onnx"), folder / "model.onnx", external_data="model.onnx_data")
    beside = load_checkpoint(folder, head="none")
    assert beside.parameters == inside.parameters
    torch.testing.assert_close(
        beside.model(ids).last_hidden_state, inside.model(ids).last_hidden_state, atol=0, rtol=0
    )
    data = bytearray((folder / "model.onnx_data").read_bytes())
    data[0] ^= 1
    (folder / "model.onnx_data").write_bytes(data)
    assert checkpoint_sha256(folder) != beside.sha256


def test_a_graph_beside_weights_is_told_and_not_read(folder: Path, encoder_checkpoint: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(encoder_checkpoint / name, folder)
    loaded = load_checkpoint(folder, head="none")
    assert not isinstance(loaded.model, OnnxModel)
    assert "not read: model.onnx, for the folder has the weights themselves" in loaded.notes
    assert loaded.sha256 == checkpoint_sha256(encoder_checkpoint)


def test_positions_that_roberta_never_uses_are_counted() -> None:
    config = RobertaConfig(
        vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    )
    assert unused_positions(RobertaModel(config)) == 2


def _input(name: str) -> Callable[[ir.Model], None]:
    def edit(model: ir.Model) -> None:
        model.graph.inputs[2].name = name

    return edit


def _wide(model: ir.Model) -> None:
    model.graph.inputs[0].dtype = ir.DataType.INT32


def _fixed(model: ir.Model) -> None:
    model.graph.inputs[0].shape = ir.Shape([1, 128])


def _half(model: ir.Model) -> None:
    model.graph.outputs[0].dtype = ir.DataType.FLOAT16


def _foreign(model: ir.Model) -> None:
    model.graph[0].domain = "com.example"
    model.opset_imports["com.example"] = 1


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_input("position_ids"), r"reads the input 'position_ids': what is imported reads input_ids"),
        (_wide, r"input 'input_ids' is INT32, must be INT64"),
        (_fixed, r"input 'input_ids' has the shape \(1, 128\), must be \[items, tokens\], both open"),
        (_half, r"output 'last_hidden_state' is FLOAT16 .* must be FLOAT \[items, tokens, width\]"),
        (_foreign, r"has operators of the domain 'com.example'"),
    ],
)
def test_a_graph_that_cannot_be_run_beside_others_is_refused(
    folder: Path, edit: Callable[[ir.Model], None], says: str
) -> None:
    model = ir.load(folder / "model.onnx")
    edit(model)
    ir.save(model, folder / "model.onnx")
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(folder, head="none")


def test_a_config_of_another_width_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    with pytest.raises(CheckpointError, match=r"has the width 32, config.json says 64"):
        load_checkpoint(folder, head="none")


def test_a_class_whose_graph_gives_no_logits_lacks_its_head_by_name(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"has no head: its outputs are last_hidden_state.*text-classification"
    ):
        load_checkpoint(folder, head="own")
    config["architectures"] = ["BertLMHeadModel"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"imported for kinds that read texts, and lm_head is no head of theirs"
    ):
        load_checkpoint(folder, head="own")


def test_a_graph_of_another_name_is_no_whole_model(folder: Path) -> None:
    (folder / "model.onnx").rename(folder / "decoder_model.onnx")
    with pytest.raises(CheckpointError, match=r"has decoder_model.onnx and no model.onnx: .* rename it"):
        load_checkpoint(folder, head="none")


def test_a_file_that_is_no_graph_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match=r"model.onnx is no ONNX graph"):
        load_checkpoint(folder, head="none")


def _secret_weight(model: ir.Model, secret: ir.ExternalTensor) -> None:
    model.graph.register_initializer(ir.Value(name="secret", const_value=secret))


def _secret_node(model: ir.Model, secret: ir.ExternalTensor) -> None:
    model.graph.append(ir.node("Constant", [], {"value": secret}))


def _secret_of_a_branch(model: ir.Model, secret: ir.ExternalTensor) -> None:
    """An operator's own graph has weights of its own, and nodes."""
    for make in (_secret_weight, _secret_node):
        branch = ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)
        make(branch, secret)
        model.graph.append(ir.node("If", [model.graph.inputs[0]], {"then_branch": branch.graph}))


@pytest.mark.parametrize("add", [_secret_weight, _secret_node, _secret_of_a_branch])
def test_weights_outside_the_folder_are_not_read(
    folder: Path, add: Callable[[ir.Model, ir.ExternalTensor], None]
) -> None:
    model = ir.load(folder / "model.onnx")
    (folder.parent / "secret").write_bytes(b"secret")
    shape = ir.Shape([6])
    add(
        model, ir.ExternalTensor("../secret", 0, 6, ir.DataType.UINT8, shape=shape, name="s", base_dir=folder)
    )
    ir.save(model, folder / "model.onnx")
    with pytest.raises(CheckpointError, match=r"lies at '../secret', outside the folder"):
        load_checkpoint(folder, head="none")
