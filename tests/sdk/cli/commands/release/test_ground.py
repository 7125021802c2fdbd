"""`rankport ground` from the command line: a checkpoint that `audit` knows, figures as JSON, mistakes in one line."""

import json
from pathlib import Path

from support import checkpoints
from support.cli import rankport


def test_a_vocabulary_is_extended_grounded_and_audited(tmp_path: Path) -> None:
    checkpoint = checkpoints.causal_lm(tmp_path / "c", "qwen3", tokenizer=True, tie_word_embeddings=True)
    words = checkpoints.WORDS[8:32]
    pairs = [
        {"text": f"{one} {two}", "tokens": [f"<a_{i % 6}>", f"<b_{j % 6}>"]}
        for i, one in enumerate(words)
        for j, two in enumerate(words)
        if (i * 5 + j) % 7 == 0
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (tmp_path / "tokens.txt").write_text(
        "".join(f"<{level}_{code}>\n" for level in "ab" for code in range(6))
    )
    command = ("ground", checkpoint, "--pairs", tmp_path / "pairs.jsonl", "--out", tmp_path / "out")
    done = rankport(*command, "--add-tokens", tmp_path / "tokens.txt", "--epochs", 3, "--json", "-")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["first_new"], figures["new_tokens"], figures["added"]) == (36, 12, 12)
    likelihood = figures["held_out_log_likelihood"]["text_to_tokens"]
    assert likelihood["after"] > likelihood["before"]
    assert figures["texts_cut"] == 0
    assert figures == json.loads((tmp_path / "out" / "ground.json").read_text())
    audited = rankport(
        "audit", "tokens", tmp_path / "out", "--json", "-"
    )  # its names tell which rows are new
    assert audited.returncode == 0, audited.stderr
    assert json.loads(audited.stdout)["new_tokens"] == 12

    again = rankport(*command, "--add-tokens", tmp_path / "tokens.txt")
    assert again.returncode == 2
    assert "holds a checkpoint already" in again.stderr
    assert "Traceback" not in again.stderr


def test_an_option_out_of_range_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    done = rankport(
        *("ground", tmp_path / "none", "--pairs", tmp_path / "none.jsonl", "--out", tmp_path / "out"),
        *("--held-out", 2),
    )
    assert done.returncode == 2
    assert "--held-out is 2.0" in done.stderr
    assert not (tmp_path / "out").exists()
