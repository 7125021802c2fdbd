"""A CRF that only forbids: an I that goes on nothing of its type. It needs no training."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

_NEVER = -10000.0


def write_bio_crf(checkpoint: Path, out: Path) -> Path:
    """Copies a BIO checkpoint, with `crf.json` and `crf.safetensors` beside its weights; returns the copy."""
    shutil.copytree(checkpoint, out)
    stated = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["id2label"]
    names = [stated[str(index)] for index in range(len(stated))]
    transitions = np.zeros((len(names), len(names)), np.float32)
    start = np.zeros(len(names), np.float32)
    for place, name in enumerate(names):
        if not name.startswith("I-"):
            continue
        start[place] = _NEVER
        for before, other in enumerate(names):
            if other[2:] != name[2:]:
                transitions[before, place] = _NEVER
    save_file(
        {"transitions": transitions, "start": start, "end": np.zeros(len(names), np.float32)},
        out / "crf.safetensors",
    )
    stated_crf = {"kind": "linear-chain", "labels": names, "unit": "word"}
    (out / "crf.json").write_text(json.dumps(stated_crf, ensure_ascii=False))
    return out
