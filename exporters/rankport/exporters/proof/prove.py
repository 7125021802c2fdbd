"""The proof that export and verify share: a bundle, opened as it will be served, against its checkpoint."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.item_encoder.modes import (
    compare_embeddings,
    measure_encoder,
    output_tolerance,
    reference_embeddings,
    sample_runs,
)
from rankport.exporters.kinds.item_encoder.module import EncoderModule
from rankport.exporters.kinds.ranker.judged import JudgedRequest, JudgedRun, quality_of, run_judged
from rankport.exporters.kinds.ranker.modes import MODES, Logits, SampleRequest, compare, measure, summarize
from rankport.exporters.kinds.ranker.read_out import readout_of
from rankport.exporters.kinds.ranker.reference import RankerReference, in_half_precision, shaken
from rankport.exporters.kinds.ranker.samples import sample_requests
from rankport.exporters.options.options import StrPath
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.proof.emulation import Runnable, runnable
from rankport.exporters.torch_memory import release
from rankport.runtime.backends.choice import load_prefix_backend, load_text_backend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest, ModeParity, Parity, Quality
from rankport.runtime.config import Device
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.store.store import TokenStore

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was measured."""

    parity: Parity
    quality: Quality | None
    drift: list[ModeParity] | None = None  # of a bundle quantized at export, from the full-precision source


@dataclass(slots=True)
class Sources:
    """What a bundle is measured against. Two models of it are never in memory at once."""

    # The very maths of the bundle, low-bit layers included; None once it is done with.
    exact: Checkpoint | None
    # The full-precision source of a bundle quantized at export.
    original: Callable[[], Checkpoint] | None = None

    def load_original(self) -> Checkpoint:
        """Lets go of the exact source first: callers must hold nothing of it any more."""
        assert self.original is not None
        self.exact = None
        release()
        return self.original()


def prove(
    bundle: Bundle,
    sources: Sources,
    *,
    tolerance: Tolerance,
    judged: Sequence[JudgedRequest],
    store: StrPath | None,
    on_progress: Progress,
    device: Device = "cpu",
) -> Proof:
    """Measures every mode on a device, and ranking quality where judged requests are given. Judges nothing."""
    if bundle.manifest.kind == "item-encoder":
        return _prove_encoder(bundle, sources, tolerance, on_progress, device)
    return _prove_ranker(bundle, sources, tolerance, judged, store, on_progress, device)


def _prove_encoder(
    bundle: Bundle, sources: Sources, tolerance: Tolerance, on_progress: Progress, device: Device
) -> Proof:
    manifest = bundle.manifest
    assert manifest.embedding is not None
    runs = sample_runs(manifest.shape.vocab_size, manifest.limits.max_item_tokens)
    on_progress("reference in torch")
    assert sources.exact is not None
    exact = EncoderModule(sources.exact.model, manifest.embedding)
    expected = reference_embeddings(exact, runs)
    noise = None
    moved = _moved(sources.exact.model, manifest)
    if moved is not None:
        with moved:
            noise = compare_embeddings("noise", expected, reference_embeddings(exact, runs))
    with runnable(bundle, device) as place:
        backend = load_text_backend(place.bundle, place.config)
        try:
            on_progress("parity: one item, batch")
            modes = measure_encoder(backend, expected, runs)
            drift = None
            if sources.original is not None:
                on_progress("drift from full precision")
                del exact
                plain = EncoderModule(sources.load_original().model, manifest.embedding)
                drift = measure_encoder(backend, reference_embeddings(plain, runs), runs)
        finally:
            backend.close()
    # Where more is rounded than the output, the noise says what to allow.
    allowed = output_tolerance(tolerance, manifest.embedding.dtype, expected) if moved is None else tolerance
    parity = summarize(place.backend, allowed, modes, manifest.quantization, noise, manifest.precision)
    return Proof(parity, None, drift)


def _prove_ranker(
    bundle: Bundle,
    sources: Sources,
    tolerance: Tolerance,
    judged: Sequence[JudgedRequest],
    store: StrPath | None,
    on_progress: Progress,
    device: Device,
) -> Proof:
    manifest = bundle.manifest
    assert sources.exact is not None
    reference = _reference(bundle, sources.exact)
    scale = None if manifest.embedding is None else _embedding_norm(sources.exact.model)
    requests = sample_requests(sources.exact.vocab_size, sources.exact.hidden_size, manifest.limits, scale)
    on_progress("reference in torch")
    exact = _logits(reference, requests)
    runs: list[JudgedRun] = []
    with runnable(bundle, device) as place:
        backend = load_prefix_backend(place.bundle, place.config)
        try:
            modes = measure(backend, exact, requests, lambda mode: on_progress(f"parity: {mode}"))
            served = None if sources.original is None else MODES["prefix_reuse"](backend, requests)
        finally:
            backend.close()
        if judged:
            runs = _judged_runs(place, judged, store, on_progress)
    noise = _noise(reference, requests, exact, manifest)
    expected = [reference.logits(run.prefix, run.items) for run in runs]
    if runs:
        modes.append(compare("judged", expected, [run.logits for run in runs]))
    drift = None
    if served is not None:
        on_progress("drift from full precision")
        del reference
        original = _reference(bundle, sources.load_original())
        drift = [compare("random tokens", _logits(original, requests), served)]
        expected = [original.logits(run.prefix, run.items) for run in runs]
        if runs:
            drift.append(compare("judged", expected, [run.logits for run in runs]))
    quality = quality_of(runs, expected) if runs else None
    parity = summarize(place.backend, tolerance, modes, manifest.quantization, noise, manifest.precision)
    return Proof(parity, quality, drift)


def _noise(
    reference: RankerReference,
    requests: Sequence[SampleRequest],
    still: Sequence[Logits],
    manifest: Manifest,
) -> ModeParity | None:
    """How far the source moves from itself where its results are rounded."""
    moved = _moved(reference.checkpoint.model, manifest)
    if moved is None:
        return None
    with moved:
        return compare("noise", still, _logits(reference, requests))


def _moved(model: nn.Module, manifest: Manifest) -> AbstractContextManager[None] | None:
    """The source in half precision, or with inputs that move by rounding alone; None where all is exact."""
    if manifest.precision != "fp32":
        return in_half_precision(model, manifest.precision)
    if manifest.quantization is None or not manifest.quantization.rounds_activations:
        return None
    return shaken(model)


def _logits(reference: RankerReference, requests: Sequence[SampleRequest]) -> list[Logits]:
    return [reference.logits(request.prefix, request.items) for request in requests]


def _reference(bundle: Bundle, checkpoint: Checkpoint) -> RankerReference:
    assert bundle.manifest.labels is not None
    return RankerReference(checkpoint, readout_of(bundle.manifest.labels))


def _judged_runs(
    place: Runnable, judged: Sequence[JudgedRequest], store: StrPath | None, on_progress: Progress
) -> list[JudgedRun]:
    with ExitStack() as opened:
        tokens = None if store is None else TokenStore.open(store, read_only=True)
        if tokens is not None:
            opened.callback(tokens.close)
        ranker = opened.enter_context(Ranker.load(place.bundle, store=tokens, config=place.config))
        return run_judged(ranker, judged, lambda done: on_progress(f"judged requests {done}/{len(judged)}"))


def _embedding_norm(model: nn.Module) -> float:
    """Mean norm of the input embeddings: the scale at which injected vectors matter as much as tokens do."""
    table = model.get_input_embeddings()  # type: ignore[operator]
    rows = torch.arange(0, table.num_embeddings, max(1, table.num_embeddings // 4096))
    with torch.no_grad():
        return float(np.linalg.norm(table(rows).numpy(), axis=1).mean())
