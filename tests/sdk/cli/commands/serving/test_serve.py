"""What `rankport serve` is told of devices, and what it answers where that cannot be."""

import pytest
from typer.testing import CliRunner

from rankport.protos.errors import InvalidRequest
from rankport.sdk.cli.app import command_tree
from rankport.sdk.cli.flags.device_options import gpu_numbers

WIDE = {"COLUMNS": "300", "TERM": "dumb"}


def test_numbers_of_gpus_are_read() -> None:
    assert gpu_numbers("2") == (2,)
    assert gpu_numbers("0, 3,1") == (0, 3, 1)
    with pytest.raises(InvalidRequest, match="'0;1': give numbers of GPUs"):
        gpu_numbers("0;1")


def test_all_gpus_are_those_that_the_machine_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankport.runtime.backends.devices.cuda.gpus.list_gpus", lambda: ("one", "two"))
    assert gpu_numbers("all") == (0, 1)
    monkeypatch.setattr("rankport.runtime.backends.devices.cuda.gpus.list_gpus", lambda: ())
    with pytest.raises(InvalidRequest, match="shows no GPU"):
        gpu_numbers("all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device-tokens", "1GiB"], "a CPU has --host-tokens"),
        (["--device-rows", "1GiB"], "a CPU reads them in place: leave --device-rows out"),
        (["--device-ids", "0,1"], "a CPU has one engine"),
        (["--device", "cuda", "--device-ids", "1,1"], "each once"),
        (["--device-ids", "x"], "give numbers of GPUs"),
        (["--prefix-cache-bytes", "lots"], "is no size"),
        (["--max-batch-tokens", "0"], "--max-batch-tokens"),
        (["--frozen"], "--frozen and --write-back go with --store"),
    ],
)
def test_options_of_devices_that_cannot_be_are_told_before_a_load(options: list[str], message: str) -> None:
    result = CliRunner().invoke(command_tree(), ["serve", "none.bundle", *options], env=WIDE)
    assert result.exit_code != 0
    assert message in result.output + str(result.exception)
