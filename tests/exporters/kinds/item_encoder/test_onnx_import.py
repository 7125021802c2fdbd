"""A folder that optimum exported to ONNX becomes a bundle: its graph inlined, proven against ONNX Runtime's own run."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import AutoModel

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.output import output_form
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from support.reading.onnx_folders import onnx_folder, sentence_folder

TITLES = ["senior nurse", "data engineer welder", "pilot"]


@pytest.fixture(scope="module")
def folder(encoder_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_folder(encoder_checkpoint, tmp_path_factory.mktemp("onnx") / "folder")


def test_its_bundle_has_the_embeddings_of_the_checkpoint_that_the_graph_was_made_of(
    folder: Path, encoder_checkpoint: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    options = {"pooling": "mean", "max_item_tokens": 32, "output_dtype": "float32"}
    folder = with_a_halved_weight(folder, tmp_path / "folder")
    bundle = export(folder, tmp_path / "bundle", on_progress=told.append, **options)
    assert told[0].startswith("kind: item-encoder (optimum: feature-extraction of transformers; BertModel")
    manifest = bundle.manifest
    assert manifest.source.notes[0] == "imported: model.onnx as it was given, its output last_hidden_state"
    assert (manifest.source.architecture, manifest.source.dtype) == ("BertModel", "float32")
    assert manifest.parity is not None
    assert manifest.parity.reference is not None
    assert manifest.parity.reference.startswith("model.onnx as it was given, run by ONNX Runtime")
    assert [mode.mode for mode in manifest.parity.modes] == ["one_item", "batch"]
    assert (manifest.graphs[0].opset, manifest.graphs[0].target) == (21, "onnx-cpu")
    with ItemEncoder.load(bundle, config=EngineConfig(threads=1)) as encoder:
        rows = encoder.encode(TITLES)[:, 0]
    np.testing.assert_allclose(rows, pooled(encoder_checkpoint, folder, TITLES), atol=1e-5)
    assert verify(bundle.path, folder).failures == ()


def with_a_halved_weight(folder: Path, copy: Path) -> Path:
    """Copies a folder whose states are multiplied by ones in float16, as tools that make graphs small keep weights."""
    shutil.copytree(folder, copy)
    model = ir.load(copy / "model.onnx")
    (states,) = model.graph.outputs
    halved = ir.val("halved", const_value=ir.tensor(np.ones(32, np.float16)))
    model.graph.register_initializer(halved)
    wide = ir.node("Cast", [halved], {"to": ir.DataType.FLOAT})
    product = ir.node("Mul", [states, wide.outputs[0]])
    model.graph.extend([wide, product])
    made = product.outputs[0]
    made.type, made.shape, made.name, states.name = states.type, states.shape, states.name, "states"
    model.graph.outputs[0] = made
    ir.save(model, copy / "model.onnx")
    return copy


def pooled(checkpoint: Path, folder: Path, texts: list[str]) -> np.ndarray:
    """Means over the hidden states that transformers computes, a text at a time."""
    from tokenizers import Tokenizer

    model, tokenizer = (
        AutoModel.from_pretrained(checkpoint),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )
    ids = [torch.tensor([tokenizer.encode(text).ids]) for text in texts]
    with torch.no_grad():
        return np.stack([model(input_ids=run).last_hidden_state[0].mean(0).numpy() for run in ids])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "onnx-cuda"}, "--target onnx-cuda: model.onnx is imported as it is"),
        ({"target": "tensorrt"}, "--target tensorrt: model.onnx is imported as it is"),
        ({"quantize": "int8"}, "--quantize int8: model.onnx is imported as it is"),
    ],
)
def test_a_graph_is_made_for_no_other_device_and_not_rounded(
    folder: Path, tmp_path: Path, options: dict[str, str], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        export(folder, tmp_path / "bundle", kind="item-encoder", pooling="mean", **options)


def test_a_graph_without_hidden_states_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    rename_output(other, "logits")
    with pytest.raises(
        CheckpointError, match=r"has no hidden states: its outputs are logits.*feature-extraction"
    ):
        export(other, tmp_path / "bundle", kind="item-encoder", pooling="mean")


def test_how_a_graph_pools_is_read_off_its_own_embedding(encoder_checkpoint: Path, tmp_path: Path) -> None:
    folder = sentence_folder(encoder_checkpoint, tmp_path / "folder")
    source = load_checkpoint(folder, head="none")
    form = output_form(source, ItemEncoderOptions())
    assert (form.pooling, form.normalize, form.hidden_size) == ("mean", True, 32)
    assert output_form(source, ItemEncoderOptions(pooling="mean", normalize=True)) == form
    for options in ({"pooling": "cls"}, {"normalize": False}):
        with pytest.raises(InvalidRequest, match="the graph's own sentence_embedding is mean, normalized"):
            output_form(source, ItemEncoderOptions(**options))  # type: ignore[arg-type]
    behind_layers = shutil.copytree(folder, tmp_path / "dense")
    change_embedding(behind_layers)
    with pytest.raises(CheckpointError, match=r"gives sentence_embedding \[32\], which no pooling makes"):
        output_form(load_checkpoint(behind_layers, head="none"), ItemEncoderOptions())


def change_embedding(folder: Path) -> None:
    """Has the graph's own embedding go through a layer behind the pooling."""
    import onnx_ir as ir

    model = ir.load(folder / "model.onnx")
    (place,) = [i for i, value in enumerate(model.graph.outputs) if value.name == "sentence_embedding"]
    pooled = model.graph.outputs[place]
    node = ir.node("Tanh", [pooled])
    made = node.outputs[0]
    made.type, made.shape, pooled.name, made.name = pooled.type, pooled.shape, "pooled", pooled.name
    model.graph.append(node)
    model.graph.outputs[place] = made
    ir.save(model, folder / "model.onnx")


def test_a_class_whose_graph_has_no_head_is_an_item_encoder(folder: Path, tmp_path: Path) -> None:
    headless = shutil.copytree(folder, tmp_path / "headless")
    config = json.loads((headless / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (headless / "config.json").write_text(json.dumps(config))
    assert claimed_kind(headless).name == "item-encoder"


def rename_output(folder: Path, name: str) -> None:
    """Renames the graph's only output."""
    import onnx_ir as ir

    model = ir.load(folder / "model.onnx")
    model.graph.outputs[0].name = name
    ir.save(model, folder / "model.onnx")
