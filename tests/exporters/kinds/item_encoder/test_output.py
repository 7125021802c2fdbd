"""The tokens of an item encoder, as a sentence-transformers folder states them."""

import json
from pathlib import Path

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.output import output_form
from rankport.protos.errors import CheckpointError
from support import checkpoints


def pooled(folder: Path, pooling: object, modules: object = None) -> Path:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if modules is not None:
        (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize(
    "pooling", [{"pooling_mode": "cls"}, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}]
)
def test_a_sentence_transformers_folder_brings_its_pooling(pooling: object, tmp_path: Path) -> None:
    modules = [
        {"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Normalize")
    ]
    folder = pooled(checkpoints.body(tmp_path / "c", "bert"), pooling, modules)
    form = output_form(load_checkpoint(folder, headless=True), ItemEncoderOptions())
    assert (form.pooling, form.normalize) == ("cls", True)


def test_a_module_that_the_graph_lacks_is_refused(tmp_path: Path) -> None:
    modules = [{"type": "sentence_transformers.models.Dense"}]
    folder = pooled(checkpoints.body(tmp_path / "c", "bert"), {"pooling_mode": "mean"}, modules)
    with pytest.raises(CheckpointError, match="Dense"):
        output_form(load_checkpoint(folder, headless=True), ItemEncoderOptions())


@pytest.mark.parametrize(("content", "message"), [("[]", "must be a dict"), ("{", "not readable JSON")])
def test_a_pooling_file_of_another_form_is_named(content: str, message: str, tmp_path: Path) -> None:
    folder = pooled(checkpoints.body(tmp_path / "c", "bert"), {})
    (folder / "1_Pooling" / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        output_form(load_checkpoint(folder, headless=True), ItemEncoderOptions())
