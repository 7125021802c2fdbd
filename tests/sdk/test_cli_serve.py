"""What `rankport serve` is told of devices, and what it answers where that cannot be."""

import pytest
import typer
from typer.testing import CliRunner

from rankport.sdk.cli.app import build
from rankport.sdk.cli.device_options import gpu_numbers, size_in_bytes

WIDE = {"COLUMNS": "300", "TERM": "dumb"}


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("4096", 4096), ("4GiB", 2**32), ("1.5 MiB", 3 * 2**19), ("2gb", 2 * 10**9)]
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "4XB", "-1", "4 G iB"])
def test_what_is_no_size_is_told(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="for example 512MiB, 4GiB"):
        size_in_bytes(text)


def test_numbers_of_gpus_are_read() -> None:
    assert gpu_numbers("2") == (2,)
    assert gpu_numbers("0, 3,1") == (0, 3, 1)
    with pytest.raises(typer.BadParameter, match="'0;1': give numbers of GPUs"):
        gpu_numbers("0;1")


def test_all_gpus_are_those_that_the_machine_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankport.runtime.backends.devices.gpus.gpus", lambda: ("one", "two"))
    assert gpu_numbers("all") == (0, 1)
    monkeypatch.setattr("rankport.runtime.backends.devices.gpus.gpus", lambda: ())
    with pytest.raises(typer.BadParameter, match="shows no GPU"):
        gpu_numbers("all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device-tokens", "1GiB"], "a CPU reads them from the store's memory map"),
        (["--device-ids", "0,1"], "a CPU has one engine"),
        (["--device", "cuda", "--device-ids", "1,1"], "each once"),
        (["--device-ids", "x"], "give numbers of GPUs"),
        (["--prefix-cache-bytes", "lots"], "is no size"),
    ],
)
def test_options_of_devices_that_cannot_be_are_told_before_a_load(options: list[str], message: str) -> None:
    result = CliRunner().invoke(build(), ["serve", "none.bundle", *options], env=WIDE)
    assert result.exit_code != 0
    assert message in result.output + str(result.exception)
