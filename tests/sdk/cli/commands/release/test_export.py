"""The commands of a release pipeline: exit codes, JSON, a page, and nothing left behind by a failure."""

import json
from pathlib import Path

import pytest

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.table import open_bundle
from support.cli import rankport, rankport_process

pytestmark = pytest.mark.usefixtures("traces")


def test_export_writes_bundle_json_and_page(
    ranker_checkpoint: Path, prompt_file: Path, tmp_path: Path
) -> None:
    done = rankport(
        *(
            "export",
            ranker_checkpoint,
            "--kind",
            "ranker",
            "--prompt",
            prompt_file,
            "--out",
            tmp_path / "tiny",
        ),
        *("--json", tmp_path / "manifest.json", "--html", tmp_path / "proof.html"),
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["name"] == "tiny"
    assert manifest["labels"]["names"] == ["yes", "no"]
    assert open_bundle(tmp_path / "tiny").manifest.fingerprint == manifest["fingerprint"]
    page = (tmp_path / "proof.html").read_text().replace("<wbr>", "")
    assert "prefix_extension/text" in page
    assert manifest["fingerprint"] in page


def test_an_export_that_misses_its_tolerance_exits_1_and_leaves_nothing(
    ranker_checkpoint: Path, tmp_path: Path
) -> None:
    done = rankport(
        *("export", ranker_checkpoint, "--kind", "ranker", "--labels", "yes,no", "--out", tmp_path / "tiny"),
        *("--max-abs-error", 0, "--json", tmp_path / "proof.json", "--html", tmp_path / "proof.html"),
    )
    assert done.returncode == 1
    assert "ParityError" in done.stderr
    assert "Traceback" not in done.stderr
    # No bundle, and what was measured, as `verify` would write it.
    assert {each.name for each in tmp_path.iterdir()} == {"proof.json", "proof.html"}
    report = json.loads((tmp_path / "proof.json").read_text())
    assert (report["passed"], report["name"]) == (False, "tiny")
    assert "max abs error 0.0e+00" in report["failures"][0]
    assert report["failures"][0] in done.stderr
    assert max(mode["max_abs_error"] for mode in report["parity"]["modes"]) > 0
    assert "full_sequence/text" in (tmp_path / "proof.html").read_text().replace("<wbr>", "")


def test_wrong_usage_exits_2_and_names_the_option(ranker_checkpoint: Path, tmp_path: Path) -> None:
    done = rankport_process("export", ranker_checkpoint, "--kind", "reranker", "--out", tmp_path / "tiny")
    assert done.returncode == 2
    assert "--kind" in done.stderr


def test_verify_exits_1_when_the_bundle_misses_a_stricter_tolerance(
    ranker_checkpoint: Path, mix_bundle: Bundle, tmp_path: Path
) -> None:
    arguments = ("verify", mix_bundle.path, "--checkpoint", ranker_checkpoint, "--json", tmp_path / "v.json")
    assert rankport(*arguments).returncode == 0
    assert json.loads((tmp_path / "v.json").read_text())["passed"] is True
    assert rankport(*arguments, "--max-abs-error", 0).returncode == 1
    verdict = json.loads((tmp_path / "v.json").read_text())
    assert verdict["passed"] is False
    assert verdict["failures"]


def test_inspect_prints_json_of_an_intact_bundle_only(mix_bundle: Bundle, tmp_path: Path) -> None:
    done = rankport_process("inspect", mix_bundle.path, "--json", "-")
    assert json.loads(done.stdout)["fingerprint"] == mix_bundle.manifest.fingerprint
    broken = rankport("inspect", tmp_path)
    assert broken.returncode == 1
    assert "BundleError" in broken.stderr


def test_help_says_what_a_flag_is_for_each_kind_that_has_it() -> None:
    words = " ".join(rankport("export", "--help").stdout.replace("│", " ").split())
    assert (
        "float16 or float32 tokens. [default: float16] For two-tower: float16 or float32 representations."
        in words
    )
    assert "For classifier: Names of the head's outputs, in order, comma-separated." in words
    assert 'For classifier: JSONL of judged texts: {"text":…, "label":…}' in words
    assert words.count("Embedding tokens an item, if --item-encoder is a fingerprint.") == 1
