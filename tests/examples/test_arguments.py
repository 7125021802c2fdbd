"""Arguments of the examples: a wrong one is told before anything is trained, and a folder keeps what is its owner's."""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from examples.arguments import add_out, at_least, remove_made
from examples.gti import run as gti
from examples.tagging import run as tagging

ROOT = Path(__file__).parents[2]
RUNS = sorted(f"examples.{path.parent.name}.run" for path in (ROOT / "examples").glob("*/run.py"))


@pytest.mark.parametrize("module", RUNS)
def test_an_out_that_is_a_file_is_refused_before_anything_is_trained(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    monkeypatch.setattr(sys, "argv", ["run", "--out", str(file)])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main()
    assert ended.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith(
        f"error: argument --out: '{file}' is no folder to write to: File exists; name another"
    )
    assert file.read_text() == "kept"


class TrainingBegunError(Exception):
    pass


@pytest.mark.parametrize(
    ("module", "owner", "first", "made"),
    [
        (gti, gti.Movies, "load", ("movies.trie", "mean", "grounded")),
        (tagging, tagging, "train_tagger", ("snips", "snips-crf")),
    ],
)
def test_a_second_run_removes_what_the_first_made_and_nothing_else(
    module: ModuleType,
    owner: object,
    first: str,
    made: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def begin(*_: object, **__: object) -> None:
        raise TrainingBegunError

    monkeypatch.setattr(owner, first, begin)
    monkeypatch.setattr(sys, "argv", ["run", "--out", str(tmp_path)])
    for name in (*made, "thesis"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TrainingBegunError):
        module.main()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "notes.txt", "thesis"]


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_out(parser, tmp_path / "new" / "folder")
    assert parser.parse_args([]).out == tmp_path / "new" / "folder"
    assert (tmp_path / "new" / "folder").is_dir()
    assert list(tmp_path.rglob("*")) == [tmp_path / "new", tmp_path / "new" / "folder"]


def test_what_a_link_points_to_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "checkpoint").symlink_to(tmp_path / "elsewhere")
    remove_made(tmp_path, ("checkpoint", "none"))
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


@pytest.mark.parametrize("text", ["-1", "1.5", "many", ""])
def test_a_number_out_of_range_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' is no whole number from 0 on$"):
        at_least(0)(text)
    assert at_least(0)("0") == 0
