"""Calibration says what of its file was cut, and what was not run."""

import json
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.ranker.calibrate import calibrate_ranker
from rankport.runtime.prompt.tokenizer import Tokenizer
from support import checkpoints
from support.bundle_samples import tokenizer_json
from support.small_rankers import text_draft


def test_texts_that_are_cut_and_items_that_are_not_run_are_counted(tmp_path: Path) -> None:
    tokenizer_file = tmp_path / "tokenizer.json"
    tokenizer_file.write_bytes(tokenizer_json())
    long, short = " ".join(["boots"] * 200), "boots"
    lines = [
        {"prefix": "red", "items": [long, short, long]},
        {"prefix": long, "items": [short] * 8 + [long, long]},
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    seen = calibrate_ranker(
        load_checkpoint(checkpoints.causal_lm(tmp_path / "checkpoint", "qwen2", num_hidden_layers=1)),
        text_draft(),
        Tokenizer.from_file(tokenizer_file),
        file,
        None,
        lambda _: None,
    )
    assert (seen.requests, seen.cut, seen.passed_over) == (2, 3, 2)
