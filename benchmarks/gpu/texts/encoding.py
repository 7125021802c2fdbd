"""An item encoder in MiniLM's shape: texts a second on the device, beside transformers on the same padded batches.

Exports on the spot, from random weights: a model of 22 M parameters takes seconds. Parity is with transformers in fp32.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import BertModel

from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.workload.texts import LENGTHS, TINY_LENGTHS, minilm_shape, pass_rates
from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.kinds.item_encoder.kind import ITEM_ENCODER
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.texts.embeddings import compare_embeddings
from rankport.exporters.kinds.texts.encoder_reference import EncoderReference
from rankport.exporters.kinds.texts.rows import answers_by_mode
from rankport.exporters.kinds.texts.samples import sample_runs
from rankport.exporters.steps.stage import stage
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.backends.contract import TextBackend
from rankport.runtime.bundle.bundle import Bundle


def main() -> None:
    """Parity of the encoder, then throughput of both."""
    part = arguments(__doc__)
    torch.manual_seed(0)
    config = minilm_shape(tiny=part.device == "cpu")
    checkpoint = part.work / "encoder.checkpoint"
    model = BertModel(config).eval()  # type: ignore[no-untyped-call]
    model.save_pretrained(checkpoint)
    bundle = export_encoder(part, checkpoint)
    part.figures.add("exported", True)
    backend = load_text_backend(bundle, "encode", part.engine)
    try:
        _parity(part, bundle, checkpoint, backend)
        lengths = TINY_LENGTHS if part.device == "cpu" else LENGTHS
        peer = model.to(part.device, torch.float16 if part.device == "cuda" else torch.float32)
        for length in lengths:
            if part.enough(6 if part.device == "cuda" else 0, f"{length} tokens"):
                pass_rates(part, backend, partial(_embeddings, peer), peer.config, length)
    finally:
        backend.close()
    part.figures.add("done", True)


def _embeddings(peer: Any, ids: torch.Tensor) -> torch.Tensor:
    states = peer(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return torch.nn.functional.normalize(states.mean(1), dim=-1)


def export_encoder(part: Part, checkpoint: Path, name: str = "encoder") -> Bundle:
    """Its proof is left to the device."""
    chosen = ItemEncoderOptions(
        pooling="mean",
        normalize=True,
        max_item_tokens=LENGTHS[-1] if part.device == "cuda" else 32,
        target="onnx-cuda" if part.device == "cuda" else "onnx-cpu",
        precision="fp16" if part.device == "cuda" else None,
        overwrite=True,
    )
    with BundleStaging(part.work / f"{name}.bundle", overwrite=True) as staging:
        draft, _ = stage(staging, ITEM_ENCODER, checkpoint, chosen, [], print)
        staging.finalize(draft)
        return staging.publish()


def _parity(part: Part, bundle: Bundle, checkpoint: Path, backend: TextBackend) -> None:
    manifest = bundle.manifest
    assert manifest.embedding is not None
    runs = sample_runs(manifest.shape.vocab_size, manifest.limits.max_item_tokens)
    reference = EncoderReference.of(load_checkpoint(checkpoint, head="none"), manifest.embedding)
    expected = reference.embeddings(runs)
    for name, answers in answers_by_mode(backend, runs).items():
        mode = compare_embeddings(name, expected, answers)
        part.figures.add(f"parity {mode.mode}", mode.model_dump(exclude={"mode"}))


if __name__ == "__main__":
    main()
