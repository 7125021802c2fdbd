"""Code that a checkpoint brings is never run: it is named, or left out on demand and recorded."""

import json
from pathlib import Path
from typing import Any

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.config.own_code import own_code
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.published.gte import gte


def write(file: Path, **fields: Any) -> None:
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(before | fields))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return checkpoints.body(tmp_path / "c", "qwen2", num_hidden_layers=1)


def test_the_file_and_class_of_each_entry_are_told() -> None:
    raw = {"auto_map": {"AutoModel": "own.Bidirectional", "AutoTokenizer": ["owner/name--tok.Slow", None]}}
    assert own_code("config.json", raw) == (
        "config.json: auto_map: AutoModel is Bidirectional of own.py",
        "config.json: auto_map: AutoTokenizer is Slow of tok.py of owner/name",
    )
    assert own_code("config.json", {"auto_map": {}}) == ()


def test_code_that_replaces_a_known_class_is_refused_and_left_out_on_demand(checkpoint: Path) -> None:
    write(checkpoint / "config.json", auto_map={"AutoModel": "own.Bidirectional"})
    entry = "config.json: auto_map: AutoModel is Bidirectional of own.py"
    with pytest.raises(
        CheckpointError, match=rf"never run \({entry}\).*--ignore-remote-code.*is_causal false"
    ):
        load_checkpoint(checkpoint, head="none")
    loaded = load_checkpoint(checkpoint, head="none", ignore_remote_code=True)
    assert loaded.ignored_code == (entry,)
    assert type(loaded.model).__name__ == "Qwen2Model"


def test_code_of_a_tokenizer_is_refused_too(checkpoint: Path) -> None:
    write(checkpoint / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Slow", "tok.Fast"]})
    with pytest.raises(
        CheckpointError, match=r"tokenizer_config.json: auto_map: AutoTokenizer is Slow of tok.py"
    ):
        load_checkpoint(checkpoint, head="none")
    loaded = load_checkpoint(checkpoint, head="none", ignore_remote_code=True)
    assert [entry.split(" is ")[1] for entry in loaded.ignored_code] == ["Slow of tok.py", "Fast of tok.py"]


@pytest.mark.parametrize("ignore", [False, True])
def test_a_model_type_that_only_its_own_code_knows_cannot_be_exported(checkpoint: Path, ignore: bool) -> None:
    write(checkpoint / "config.json", model_type="mine", auto_map={"AutoConfig": "own.Config"})
    with pytest.raises(
        CheckpointError, match=r"AutoConfig is Config of own.py.*'mine' is unknown to transformers"
    ):
        load_checkpoint(checkpoint, head="none", ignore_remote_code=ignore)


def test_other_code_than_that_of_a_published_layout_is_refused_and_left_out_on_demand(tmp_path: Path) -> None:
    folder = gte(tmp_path, auto_map={"AutoModel": "mine.NewModelWithATwist"})
    with pytest.raises(
        CheckpointError, match=r"AutoModel is NewModelWithATwist of mine.py.*own gte may compute"
    ):
        load_checkpoint(folder, head="none")
    loaded = load_checkpoint(folder, head="none", ignore_remote_code=True)
    assert loaded.ignored_code == ("config.json: auto_map: AutoModel is NewModelWithATwist of mine.py",)
