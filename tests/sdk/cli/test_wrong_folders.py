"""A folder of the wrong kind, given to any command, is named in one line with what to do, and the exit code is 1."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.table import open_bundle
from rankport.sdk import Ranker
from support.cli import rankport

COMMANDS = {
    "inspect": ("inspect", "{}"),
    "verify": ("verify", "{}", "--checkpoint", "{}"),
    "serve": ("serve", "{}"),
    "score": ("score", "b", "--bundle", "{}", "--prefix", "a"),
    "encode": ("encode", "--bundle", "{}", "--items", "items.csv", "--store", "tokens.lmdb"),
    "build": ("build", "{}", "--target", "tensorrt-rtx:sm89"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_checkpoint_where_a_bundle_is_asked_for(
    command: str, ranker_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.csv").write_text("id,text\na,b\n")
    run = rankport(*(part.format(ranker_checkpoint) for part in COMMANDS[command]))
    assert run.returncode == 1
    (line,) = run.stderr.strip().splitlines()
    assert "not a bundle but a checkpoint: make a bundle of it with `rankport export" in line


def test_a_checkpoint_where_python_asks_for_a_bundle(ranker_checkpoint: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle but a checkpoint"):
        Ranker.load(ranker_checkpoint)


def test_the_command_that_is_shown_runs_as_it_stands(ranker_checkpoint: Path, tmp_path: Path) -> None:
    spaced = tmp_path / "a model's folder"
    shutil.copytree(ranker_checkpoint, spaced)
    with pytest.raises(BundleError) as failure:
        open_bundle(spaced)
    [command] = re.findall("`(.*)`", str(failure.value))
    assert shlex.split(command) == ["rankport", "export", str(spaced), "--out", "a model's folder.bundle"]


def test_the_folder_of_a_model_in_a_cache_of_hugging_face(ranker_checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model = tmp_path / "models--org--tiny"
    (model / "blobs").mkdir(parents=True)
    for revision in ("0a", "1b"):
        (model / "snapshots" / revision).mkdir(parents=True)
        for file in ranker_checkpoint.iterdir():
            (model / "snapshots" / revision / file.name).symlink_to(file)
    for named, revision in ((False, "0a"), (True, "1b")):
        if named:
            (model / "refs").mkdir()
            (model / "refs" / "main").write_text("1b")
        run = rankport("export", model, "--kind", "ranker", "--out", tmp_path / "b")
        assert run.returncode == 1
        assert f"give that of a revision, {str(model / 'snapshots' / revision)!r}" in run.stderr


def test_a_bundle_where_a_checkpoint_is_asked_for(encoder_bundle: Bundle, tmp_path: Path) -> None:
    for command in (("export", encoder_bundle.path, "--out", tmp_path / "b"), _verify(encoder_bundle)):
        run = rankport(*command)
        assert run.returncode == 1
        assert "is a bundle, which was exported already: `rankport inspect" in run.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("given", ["model.gguf", "."])
def test_a_file_of_llama_cpp_where_a_checkpoint_is_asked_for(given: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    run = rankport("export", tmp_path / given, "--kind", "ranker", "--out", tmp_path / "b")
    assert run.returncode == 1
    (line,) = run.stderr.strip().splitlines()
    assert line.endswith("model.gguf is llama.cpp's: give the checkpoint that it was converted from")
    assert ("is a file: " in line) == (given != ".")


@pytest.mark.parametrize("kind", [(), ("--kind", "ranker", "--label-ids", "7,8")], ids=["no kind", "ranker"])
def test_the_name_of_a_model_on_a_hub(kind: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run = rankport("export", "Qwen/Qwen3-0.6B", "--out", tmp_path / "b", *kind)
    assert run.returncode == 1
    (line,) = [line for line in run.stderr.splitlines() if "Error" in line]
    assert "nothing is ever downloaded" in line
    assert "hf download Qwen/Qwen3-0.6B --local-dir Qwen3-0.6B" in line


def _verify(bundle: Bundle) -> tuple[object, ...]:
    return ("verify", bundle.path, "--checkpoint", bundle.path)
