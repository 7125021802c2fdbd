"""The proof of an item encoder bundle: its embedding tokens on sample texts, alone and beside others."""

from collections.abc import Mapping
from contextlib import closing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.onnx_model import EMBEDDING
from rankport.exporters.kinds.item_encoder.own_embedding import own_rows
from rankport.exporters.kinds.item_encoder.proof.batches import batches_of_modes, batches_of_sweep
from rankport.exporters.kinds.item_encoder.proof.owner_embeddings import run_reference
from rankport.exporters.kinds.item_encoder.proof.owners_mode import compare_with_owners
from rankport.exporters.kinds.texts.across_window import AcrossWindow
from rankport.exporters.kinds.texts.embeddings import (
    compare_embeddings,
    output_tolerance,
    scaled_tolerance,
)
from rankport.exporters.kinds.texts.encoder_reference import EncoderReference
from rankport.exporters.kinds.texts.rows import Answers, answers_by_mode
from rankport.exporters.kinds.texts.samples import Runs, sample_runs
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Evidence, Series
from rankport.exporters.proof.noise import moved_as_rounded
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.exporters.proof.source_words import compared_with
from rankport.exporters.proof.windows import answers_by_form, form_of
from rankport.protos.wording import counted
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.bundle.manifest import Embedding, Manifest, ModeParity

_Asked = Mapping[str, Runs]  # by form
_Expected = Mapping[str, NDArray[np.float32]]  # by form


def measure_item_encoder(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures an item encoder; a `proof.prove.Measure`.

    Raises ParityError if texts become other token ids than sentence-transformers makes of them.
    """
    form = _form(manifest)
    reference = EncoderReference.of(source, form)
    runs, most = _samples(manifest), manifest.limits.max_item_tokens
    across = AcrossWindow.of(
        source.model, source.vocab_size, max(map(len, runs)), most, least=form.skip_tokens + 1
    )
    asked = across.beside(runs)
    on_progress("reference in torch")
    expected = _embeddings(reference, asked)
    on_progress("parity: sentence-transformers")
    folder = compare_with_owners(manifest, place, source)
    # Where more is rounded than the output, the noise says what to allow.
    noise, tolerance = None, options.tolerance
    moved = moved_as_rounded(source.model, manifest)
    if moved is None:
        tolerance = scaled_tolerance(output_tolerance(tolerance, form.dtype), _every(expected))
    else:
        with moved:
            noise = compare_embeddings("noise", _every(expected), _every(_embeddings(reference, asked)))
    on_progress("parity: one item, batch")
    with closing(load_text_backend(place.bundle, "encode", place.config)) as backend:
        answers = answers_by_form(partial(answers_by_mode, backend), asked)
        modes, drift = _compare(expected, answers), list[ModeParity]()
        if options.batch_queries is None:
            batches = batches_of_modes(answers)
        else:
            many = _samples(manifest, options.batch_queries)
            batches = batches_of_sweep(
                backend, many, place.config, lambda size: on_progress(f"{counted(size, 'item')} in a pass")
            )
    own = own_rows(source, runs)
    if own is not None:
        modes.append(compare_embeddings(EMBEDDING, own, answers["one_item"]))
    # Of a model quantized here, what its owner ran is the original: that is drift.
    (modes if manifest.quantization is None else drift).extend(folder.modes)
    owner = run_reference(place, manifest, options)
    evidence = Evidence(
        "token value", _values(expected, answers), owner=None if owner is None else owner.values
    )
    return Measured(
        modes,
        noise,
        tolerance,
        None,
        partial(_drift_from, form, asked, answers, drift),
        batches=batches,
        agreement=owner,
        reference=compared_with(folder.compared_with, source, manifest.quantization, across.unseen),
        evidence=evidence,
    )


def _drift_from(
    form: Embedding, asked: _Asked, answers: Answers, folder: list[ModeParity], original: Checkpoint
) -> Drift:
    plain = _embeddings(EncoderReference.of(original, form), asked)
    return Drift([*_compare(plain, answers), *folder], None, _values(plain, answers))


def _embeddings(reference: EncoderReference, asked: _Asked) -> _Expected:
    return {name: reference.embeddings(runs) for name, runs in asked.items()}


def _every(expected: _Expected) -> NDArray[np.float32]:
    return np.concatenate(list(expected.values()))


def _compare(expected: _Expected, answers: Answers) -> list[ModeParity]:
    return [compare_embeddings(mode, expected[form_of(mode)], tokens) for mode, tokens in answers.items()]


def _samples(manifest: Manifest, count: int = 24) -> Runs:
    least = _form(manifest).skip_tokens + 1
    return sample_runs(manifest.shape.vocab_size, manifest.limits.max_item_tokens, least=least, count=count)


def _values(expected: _Expected, answers: Answers) -> Series:
    return Series.of("token values", [expected[form_of(mode)] for mode in answers], list(answers.values()))


def _form(manifest: Manifest) -> Embedding:
    assert manifest.embedding is not None
    return manifest.embedding
