"""`disk_refusals`: a full disk is told by the place and the reason, whoever wrote; other errors stay as they are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rankport.exporters.disk_refusals import refusals_told
from support.file_limits import files_of_at_most


def by_numpy(folder: Path) -> None:
    with (folder / "weights.bin").open("wb") as file:
        np.zeros(5000, np.float32).tofile(file)


def by_safetensors(folder: Path) -> None:
    save_file({"a": torch.zeros(5000)}, folder / "model.safetensors")


def by_hand(folder: Path) -> None:
    (folder / "config.json").write_bytes(bytes(20000))


@pytest.mark.parametrize("write", [by_numpy, by_safetensors, by_hand])
def test_what_the_disk_refuses_is_told_by_the_place(write: Callable[[Path], None], tmp_path: Path) -> None:
    with (
        files_of_at_most(10_000),
        pytest.raises(OSError, match="cannot be written: File too large") as failure,
        refusals_told(tmp_path),
    ):
        write(tmp_path)
    assert failure.value.filename == str(tmp_path)
    assert all(file.stat().st_size <= 10_000 for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        OSError("no tokenizer there"),
        FileNotFoundError(2, "No such file", "/elsewhere"),
        OSError(5, "Input/output"),
    ],
)
def test_other_errors_stay_as_they_are(error: OSError, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"kept")
    with pytest.raises(OSError) as failure, refusals_told(tmp_path):
        raise error
    assert failure.value is error
    assert (tmp_path / "state").read_bytes() == b"kept"
