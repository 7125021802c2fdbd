"""The proof of an item encoder bundle: its embedding tokens on sample texts, alone and beside others."""

from contextlib import closing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.item_encoder.modes import (
    Answers,
    Runs,
    answers_by_mode,
    compare_embeddings,
    compare_modes,
    output_tolerance,
    reference_embeddings,
    sample_runs,
)
from rankport.exporters.kinds.item_encoder.module import EncoderModule
from rankport.exporters.kinds.item_encoder.owner_embeddings import run_reference
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Evidence, Series
from rankport.exporters.proof.noise import moved_as_rounded
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.bundle.manifest import Embedding, Manifest


def measure_item_encoder(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures an item encoder; a `proof.prove.Measure`."""
    form = _form(manifest)
    module = EncoderModule(source.model, form)
    runs = sample_runs(manifest.shape.vocab_size, manifest.limits.max_item_tokens)
    on_progress("reference in torch")
    expected = reference_embeddings(module, runs)
    # Where more is rounded than the output, the noise says what to allow.
    noise, tolerance = None, options.tolerance
    moved = moved_as_rounded(source.model, manifest)
    if moved is None:
        tolerance = output_tolerance(tolerance, form.dtype)
    else:
        with moved:
            noise = compare_embeddings("noise", expected, reference_embeddings(module, runs))
    on_progress("parity: one item, batch")
    with closing(load_text_backend(place.bundle, place.config)) as backend:
        answers = answers_by_mode(backend, runs)
    drift_from = partial(_drift_from, form, runs, answers)
    owner = run_reference(place, manifest, options)
    evidence = Evidence(
        "token value", _values(expected, answers), owner=None if owner is None else owner.values
    )
    return Measured(
        compare_modes(expected, answers),
        noise,
        tolerance,
        None,
        drift_from,
        agreement=owner,
        evidence=evidence,
    )


def _drift_from(form: Embedding, runs: Runs, answers: Answers, original: Checkpoint) -> Drift:
    plain = reference_embeddings(EncoderModule(original.model, form), runs)
    return Drift(compare_modes(plain, answers), None, _values(plain, answers))


def _values(expected: NDArray[np.float32], answers: Answers) -> Series:
    return Series.of("token values", [expected] * len(answers), list(answers.values()))


def _form(manifest: Manifest) -> Embedding:
    assert manifest.embedding is not None
    return manifest.embedding
