"""An item encoder in MiniLM's shape: texts a second on the device, beside transformers on the same padded batches.

Exports on the spot, from random weights: a model of 22 M parameters takes seconds. Parity is with transformers in fp32.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel

from benchmarks.gpu.reports.part import Part, arguments
from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.kinds.item_encoder.kind import ITEM_ENCODER
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.texts.embeddings import compare_modes
from rankport.exporters.kinds.texts.encoder_reference import EncoderReference
from rankport.exporters.kinds.texts.rows import answers_by_mode
from rankport.exporters.kinds.texts.samples import sample_runs
from rankport.exporters.steps import stage
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.backends.contract import TextBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.tokens import TokenRun, TokenRuns

Runs = list[NDArray[np.int64]]

_LENGTHS = (16, 64, 128)
_TINY_LENGTHS = (8,)
_ROUNDS = 7
_PASSES = 8
"""Passes in flight a round: the last one alone is waited for in full."""


def main() -> None:
    """Parity of the encoder, then throughput of both."""
    part = arguments(__doc__)
    torch.manual_seed(0)
    config = _shape(tiny=part.device == "cpu")
    checkpoint = part.work / "encoder.checkpoint"
    model = BertModel(config).eval()
    model.save_pretrained(checkpoint)
    bundle = _export(part, checkpoint)
    part.figures.add("exported", True)
    backend = load_text_backend(bundle, part.engine)
    try:
        _parity(part, bundle, checkpoint, backend)
        lengths = _TINY_LENGTHS if part.device == "cpu" else _LENGTHS
        peer = model.to(part.device, torch.float16 if part.device == "cuda" else torch.float32)
        for length in lengths:
            if part.enough(6 if part.device == "cuda" else 0, f"{length} tokens"):
                _throughput(part, backend, peer, length)
    finally:
        backend.close()
    part.figures.add("done", True)


def _shape(*, tiny: bool) -> BertConfig:
    """all-MiniLM-L6-v2's."""
    if tiny:
        return BertConfig(
            vocab_size=101,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=64,
        )
    return BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)


def _export(part: Part, checkpoint: Path) -> Bundle:
    """Its proof is left to the device."""
    chosen = ItemEncoderOptions(
        pooling="mean",
        normalize=True,
        max_item_tokens=_LENGTHS[-1] if part.device == "cuda" else 32,
        target="onnx-cuda" if part.device == "cuda" else "onnx-cpu",
        precision="fp16" if part.device == "cuda" else None,
        overwrite=True,
    )
    with BundleStaging(part.work / "encoder.bundle", overwrite=True) as staging:
        draft, _ = stage(staging, ITEM_ENCODER, checkpoint, chosen, [], print)
        staging.finalize(draft)
        return staging.publish()


def _parity(part: Part, bundle: Bundle, checkpoint: Path, backend: TextBackend) -> None:
    manifest = bundle.manifest
    assert manifest.embedding is not None
    runs = sample_runs(manifest.shape.vocab_size, manifest.limits.max_item_tokens)
    reference = EncoderReference.of(load_checkpoint(checkpoint, head="none"), manifest.embedding)
    for mode in compare_modes(reference.embeddings(runs), answers_by_mode(backend, runs)):
        part.figures.add(f"parity {mode.mode}", mode.model_dump(exclude={"mode"}))


def _throughput(part: Part, backend: TextBackend, peer: Any, length: int) -> None:
    rng = np.random.default_rng(length)
    texts = max(1, part.engine.max_batch_tokens // length)
    runs: Runs = list(rng.integers(3, peer.config.vocab_size, (texts, length)))
    packed = TokenRuns.of([TokenRun(run) for run in runs])
    ids = torch.tensor(np.stack(runs), device=part.device)
    mask = torch.ones_like(ids)

    def ours() -> None:
        started = [backend.start(packed) for _ in range(_PASSES)]
        for encode_pass in started:
            encode_pass.results()

    def theirs() -> None:
        with torch.inference_mode():
            outputs = [peer(input_ids=ids, attention_mask=mask).last_hidden_state for _ in range(_PASSES)]
            for states in outputs:
                torch.nn.functional.normalize(states.mean(1), dim=-1).cpu()

    rates = {
        name: texts * _PASSES / _seconds(run)
        for name, run in {"rankport": ours, "transformers sdpa": theirs}.items()
    }
    ratio = rates["rankport"] / rates["transformers sdpa"]
    part.figures.add(f"{length} tokens, texts/s", rates | {"ratio": ratio, "texts_a_pass": texts})


def _seconds(run: Callable[[], None]) -> float:
    """Median of some rounds, after two that record and tune."""
    run()
    run()
    times = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


if __name__ == "__main__":
    main()
