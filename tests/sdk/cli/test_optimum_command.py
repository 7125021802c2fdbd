"""`optimum-cli export rankport`: found by optimum's own registration, and the same command as `rankport export`."""

import json
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from optimum.commands.optimum_cli import main

import rankport.sdk
from rankport.runtime.kinds.table import open_bundle
from support.cli import in_process

SDK = Path(rankport.sdk.__file__).parents[2]


def optimum_cli(*arguments: object) -> CompletedProcess[str]:
    """Runs optimum's command line in this process."""
    return in_process(main, "optimum-cli", *arguments)


def test_optimum_lists_it_and_its_help_is_that_of_the_export() -> None:
    listed = optimum_cli("export", "--help")
    assert listed.returncode == 0
    assert "rankport" in listed.stdout
    told = optimum_cli("export", "rankport", "--help")
    assert told.returncode == 0
    assert "optimum-cli export rankport" in " ".join(told.stdout.split())
    assert "--item-encoder" in told.stdout


def test_an_export_through_optimum_is_the_one_of_our_own_command(
    encoder_checkpoint: Path, tmp_path: Path, traces: object
) -> None:
    done = optimum_cli(
        *("export", "rankport", encoder_checkpoint, "--pooling", "mean", "--out", tmp_path / "bundle"),
        *("--max-item-tokens", 32, "--json", tmp_path / "manifest.json"),
    )
    assert done.returncode == 0, done.stderr
    assert "kind: item-encoder (optimum: feature-extraction of transformers; BertModel" in done.stderr
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.fingerprint == json.loads((tmp_path / "manifest.json").read_text())["fingerprint"]
    assert (manifest.kind, manifest.limits.max_item_tokens) == ("item-encoder", 32)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (
            ("nowhere", "--out", "x"),
            1,
            "rankport: CheckpointError: checkpoint 'nowhere' is not a folder here",
        ),
        (("nowhere", "--out", "x", "--kind", "reranker"), 2, "kind 'reranker' is unknown"),
        (("--nothing",), 2, "No such option: --nothing"),
    ],
)
def test_its_errors_and_exit_codes_are_ours(arguments: tuple[str, ...], status: int, says: str) -> None:
    done = optimum_cli("export", "rankport", *arguments)
    assert done.returncode == status
    assert says in " ".join(done.stderr.replace("│", " ").split())


def test_without_optimum_its_name_leads_to_nothing_that_could_be_taken_for_it() -> None:
    code = (
        "import sys; sys.path[:] = [path for path in sys.path if 'site-packages' not in path] + sys.argv[1:]\n"
        "import importlib.util, optimum\n"
        "print(optimum.__spec__.loader is None or optimum.__file__ is None, hasattr(optimum, '__version__'))\n"
        "for name in ('exporters', 'gptq', 'quanto', 'version', 'commands.export'):\n"
        "    print(importlib.util.find_spec(f'optimum.{name}'))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, str(SDK)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False", *["None"] * 5]


def test_no_init_file_hides_optimum_and_our_own_command_line_does_not_load_it() -> None:
    assert list((SDK / "optimum").rglob("__init__.py")) == []
    code = "import sys; import rankport.sdk.cli.app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert not any(name.split(".")[0] in ("optimum", "torch") for name in done.stdout.split())
