"""`rankport audit tokens` as a release gate: exit codes, JSON, one page, pictures."""

import json
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from support import checkpoints
from support.cli import rankport

TABLE = "model.embed_tokens.weight"


def audit(*arguments: object) -> CompletedProcess[str]:
    return rankport("audit", "tokens", *arguments)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return checkpoints.causal_lm(tmp_path / "c", "qwen3", tokenizer=True, tie_word_embeddings=True)


def test_sound_rows_pass_and_every_output_is_written(checkpoint: Path, tmp_path: Path) -> None:
    rows = load_file(checkpoint / "model.safetensors")[TABLE][-40:]
    np.save(tmp_path / "codebook.npy", rows.numpy()[:, :20])
    done = audit(
        *(checkpoint, "--new-tokens", 40, "--codebook", tmp_path / "codebook.npy", "--json", "-"),
        *("--html", tmp_path / "audit.html", "--plots", tmp_path / "plots"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["passed"], report["first_new"], report["new_tokens"], report["tied"]) == (
        True,
        61,
        40,
        True,
    )
    (table,) = report["tables"]
    assert table["table"] == TABLE
    assert len(table["new"]["singular_values"]) == 32
    assert table["rsa"]["all_pairs"]["spearman"] > 0.5
    page = (tmp_path / "audit.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "[PAD]" in page or "engineer" in page  # neighbours by name
    names = {file.name for file in (tmp_path / "plots").iterdir()}
    assert names == {f"model.embed_tokens-{plot}.png" for plot in ("spectrum", "cosines", "rsa")}
    for file in (tmp_path / "plots").iterdir():
        assert file.read_bytes().startswith(b"\x89PNG")


def test_collapsed_rows_exit_1_with_each_limit_they_miss(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    tensors[TABLE][61:] = tensors[TABLE][:61].mean(0)
    save_file(tensors, checkpoint / "model.safetensors", {"format": "pt"})
    done = audit(checkpoint, "--first-new", 61)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for reason in ("effective rank 1.0 of the new rows", "mean cosine 1.000", "39 new rows equal another"):
        assert reason in done.stderr
    lenient = ("--min-effective-rank", 0, "--max-mean-cosine", 1.1, "--max-duplicates", 39)
    assert audit(checkpoint, "--first-new", 61, *lenient).returncode == 0


def test_a_mistake_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    untold = audit(checkpoint)
    assert untold.returncode == 1
    assert "CheckpointError" in untold.stderr
    assert "--new-tokens" in untold.stderr
    np.save(tmp_path / "short.npy", np.ones((3, 4), np.float32))
    short = audit(checkpoint, "--new-tokens", 40, "--codebook", tmp_path / "short.npy")
    assert short.returncode == 2
    assert "has 3 vectors for 40 new tokens" in short.stderr
