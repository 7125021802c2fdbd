"""Files of tensors that are written for others: whoever may read the folder's other files may read them too."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from rankport.exporters.checkpoints.own_form import save_tensors


def test_a_file_of_tensors_is_for_whom_any_new_file_is_for(tmp_path: Path) -> None:
    other, file = tmp_path / "config.json", tmp_path / "model.safetensors"
    other.write_text("{}")
    for value in (1.0, 2.0):  # the second is written over the first
        save_tensors({"weight": torch.full((2,), value)}, file, {"format": "pt"})
        assert file.stat().st_mode == other.stat().st_mode
        assert load_file(file)["weight"].tolist() == [value, value]
