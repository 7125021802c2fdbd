"""The proof that export and verify share: a bundle, opened as it will be served, against its checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rankport.exporters.checkpoint import Checkpoint
from rankport.exporters.encoder_module import EncoderModule
from rankport.exporters.encoder_parity import (
    measure_encoder,
    output_tolerance,
    reference_embeddings,
    sample_runs,
)
from rankport.exporters.judged import JudgedRequest, measure_quality
from rankport.exporters.options import StrPath
from rankport.exporters.parity import measure, summarize
from rankport.exporters.readout import readout_of
from rankport.exporters.reference import RankerReference
from rankport.exporters.samples import sample_requests
from rankport.exporters.tolerance import Tolerance
from rankport.runtime.backends.onnxruntime import OnnxRuntimeEncodingBackend, OnnxRuntimeScoringBackend
from rankport.runtime.bundle import Bundle
from rankport.runtime.manifest import Parity, Quality
from rankport.runtime.ranker import Ranker
from rankport.runtime.token_store import TokenStore

BACKEND = "onnxruntime-cpu"
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was measured."""

    parity: Parity
    quality: Quality | None


def prove(
    bundle: Bundle,
    checkpoint: Checkpoint,
    *,
    tolerance: Tolerance,
    judged: Sequence[JudgedRequest],
    store: StrPath | None,
    on_progress: Progress,
) -> Proof:
    """Measures every mode, and ranking quality where judged requests are given. Judges nothing."""
    if bundle.manifest.kind == "item_encoder":
        return Proof(_prove_encoder(bundle, checkpoint, tolerance, on_progress), None)
    return _prove_ranker(bundle, checkpoint, tolerance, judged, store, on_progress)


def _prove_encoder(
    bundle: Bundle, checkpoint: Checkpoint, tolerance: Tolerance, on_progress: Progress
) -> Parity:
    manifest = bundle.manifest
    assert manifest.embedding is not None
    runs = sample_runs(manifest.shape.vocab_size, manifest.limits.max_item_tokens)
    on_progress("reference in torch")
    expected = reference_embeddings(EncoderModule(checkpoint.model, manifest.embedding), runs)
    backend = OnnxRuntimeEncodingBackend(bundle)
    try:
        on_progress("parity: one item, batch")
        modes = measure_encoder(backend, expected, runs)
    finally:
        backend.close()
    return summarize(BACKEND, output_tolerance(tolerance, manifest.embedding.dtype, expected), modes)


def _prove_ranker(
    bundle: Bundle,
    checkpoint: Checkpoint,
    tolerance: Tolerance,
    judged: Sequence[JudgedRequest],
    store: StrPath | None,
    on_progress: Progress,
) -> Proof:
    manifest = bundle.manifest
    assert manifest.labels is not None
    reference = RankerReference(checkpoint, readout_of(manifest.labels))
    scale = None if manifest.embedding is None else _embedding_norm(checkpoint)
    requests = sample_requests(checkpoint.vocab_size, checkpoint.hidden_size, manifest.limits, scale)
    backend = OnnxRuntimeScoringBackend(bundle)
    try:
        modes = measure(backend, reference.logits, requests, lambda mode: on_progress(f"parity: {mode}"))
    finally:
        backend.close()
    quality = None
    if judged:
        tokens = None if store is None else TokenStore.open(store, read_only=True)
        try:
            with Ranker.load(bundle, store=tokens) as ranker:
                quality, mode = measure_quality(
                    ranker,
                    reference.logits,
                    judged,
                    lambda done: on_progress(f"judged requests {done}/{len(judged)}"),
                )
            modes.append(mode)
        finally:
            if tokens is not None:
                tokens.close()
    return Proof(summarize(BACKEND, tolerance, modes), quality)


def _embedding_norm(checkpoint: Checkpoint) -> float:
    """Mean norm of the input embeddings: the scale at which injected vectors matter as much as tokens do."""
    weight = checkpoint.model.get_input_embeddings().weight.detach().numpy()  # type: ignore[operator]
    return float(np.linalg.norm(weight, axis=1).mean())
