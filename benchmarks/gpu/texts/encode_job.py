"""`rankport encode` into a store, against passes of its own encoder: what reading, tokenizing and storing leave."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import BertModel

from benchmarks.gpu.reports.energy import metered
from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.texts.encoding import export_encoder
from benchmarks.gpu.workload.texts import FRAME, minilm_shape, pass_rates, save_tokenizer, text_flops
from rankport.runtime.backends.choice import load_text_backend

_TOKENS = 64
_ITEMS = 100_000
_TINY_TOKENS, _TINY_ITEMS = 8, 200


def main() -> None:
    """Passes first: the job gets a device of its own."""
    part = arguments(__doc__)
    torch.manual_seed(0)
    config = minilm_shape(tiny=not part.on_gpu)
    checkpoint = part.work / "encode-job.checkpoint"
    BertModel(config).save_pretrained(checkpoint)
    save_tokenizer(checkpoint, config.vocab_size)
    bundle = export_encoder(part, checkpoint, "encode-job")
    tokens, items = (_TOKENS, _ITEMS) if part.on_gpu else (_TINY_TOKENS, _TINY_ITEMS)
    backend = load_text_backend(bundle, "encode", part.engine)
    try:
        own = pass_rates(part, backend, None, config, tokens)
    finally:
        backend.close()
    catalogue = _write_items(part.work / "items.jsonl", items, tokens - FRAME, config.vocab_size)
    _job(part, bundle.path, catalogue, items, own, text_flops(config, tokens))


def _write_items(file: Path, items: int, words: int, vocabulary: int) -> Path:
    rng = np.random.default_rng(0)
    with file.open("w") as lines:
        for number, row in enumerate(rng.integers(0, vocabulary - 4, (items, words))):
            lines.write(json.dumps({"id": f"i{number}", "text": " ".join(map(str, row))}) + "\n")
    return file


def _job(part: Part, bundle: Path, catalogue: Path, items: int, own: float, flops: float) -> None:
    report, store = part.work / "encode-job.json", part.work / "encode-job.lmdb"
    shutil.rmtree(store, ignore_errors=True)
    report.unlink(missing_ok=True)
    command = [
        *(
            sys.executable,
            "-m",
            "rankport.sdk.cli",
            "encode",
            "--bundle",
            str(bundle),
            "--items",
            str(catalogue),
        ),
        *("--store", str(store), "--device", part.device, "--json", str(report)),
    ]
    with metered(part.device) as meter:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, part.left_s))
    print((done.stdout + done.stderr)[-3000:], flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    found = json.loads(report.read_text())
    part.figures.add("report", found)
    rate = items / float(found["seconds"])
    figures = {"items_per_s": rate, "of_its_encoder": rate / own} | part.share(rate * flops)
    # From start to end of the process: with what it takes to load.
    part.figures.add("job", figures | meter.figures(items))


if __name__ == "__main__":
    main()
