"""The converter of HSTU's published layout, as a command."""

import json
import sys
from pathlib import Path

import pytest
import torch

from examples.ligr.convert_hstu import main
from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from support.sets.dumps import COLLECTION, dumped
from support.sets.rankers import set_config, set_model


def test_a_folder_of_tensors_and_dumps_becomes_a_checkpoint_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = set_config("ligr")
    whole = set_model(config).state_dict()
    state = {name: value for name, value in whole.items() if name != "tables.movie.weight"}
    (tmp_path / "hstu" / "torch_module").mkdir(parents=True)
    torch.save({"model_state_dict": state}, tmp_path / "hstu" / "torch_module" / "model.0.pth")
    dumped(tmp_path / "hstu" / COLLECTION, "video_id", whole["tables.movie.weight"], ranks=2)
    names = {name: name for name in state} | {"tables.movie.weight": "video_id"}
    (tmp_path / "config.json").write_text(config.model_dump_json())
    (tmp_path / "names.json").write_text(json.dumps(names))
    arguments = [
        "hstu",
        "--config",
        "config.json",
        "--names",
        "names.json",
        "--order",
        "kinds",
        "--out",
        "out",
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["convert_hstu", *arguments])
    main()
    told = capsys.readouterr().out
    assert told.startswith("left out, of training alone: video_id_emb_opt_values.rank_0.world_size_2, ")
    loaded = load_checkpoint(tmp_path / "out").model.state_dict()
    assert loaded.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(loaded[name], value, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("config", "names", "told"),
    [
        (None, "{}", "argument --config: no file config.json"),
        ("{", "{}", "config.json is not readable JSON"),
        ("{}", "{}", "config.json: hidden_size: missing"),
        ("good", "[1]", "names.json holds a JSON list, must be an object"),
        (
            "good",
            '{"event_in.weight": 3}',
            "names.json: 'event_in.weight' is named 3: give a stored name as text",
        ),
        ("good", "{}", "torch_module has no file model.RANK.pth"),
    ],
)
def test_a_file_at_fault_is_named_in_one_line(
    config: str | None,
    names: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if config is not None:
        text = set_config("ligr").model_dump_json() if config == "good" else config
        (tmp_path / "config.json").write_text(text)
    (tmp_path / "names.json").write_text(names)
    monkeypatch.chdir(tmp_path)
    options = ("--config", "config.json", "--names", "names.json", "--order", "kinds", "--out", "out")
    monkeypatch.setattr(sys, "argv", ["convert_hstu", "hstu", *options])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert told in capsys.readouterr().err.splitlines()[-1]
