"""The proof of a tagger bundle: the logits of its tokens, the places it reads, and its spans."""

from collections.abc import Mapping
from contextlib import closing
from functools import partial

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.tagger.proof.logits import (
    Rows,
    batches_of_modes,
    batches_of_sweep,
    bundle_logits,
    compare_logits,
    source_logits,
)
from rankport.exporters.kinds.tagger.proof.pipeline import compare_with_pipeline
from rankport.exporters.kinds.tagger.proof.texts import compare_texts
from rankport.exporters.kinds.texts.across_window import AcrossWindow
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
from rankport.runtime.bundle.manifest import Manifest, ModeParity
from rankport.runtime.kinds.tagger.rules import ROLE

_TIE = 1e-6
"""Logits closer than this have no order."""

_Asked = Mapping[str, Runs]  # by form
_Expected = Mapping[str, Rows]  # by form
_Answered = Mapping[str, Rows]  # by mode


def measure_tagger(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures a tagger; a `proof.prove.Measure`.

    Raises ParityError if the bundle reads other tokens or places in a text than transformers does.
    """
    runs, most = _samples(manifest), manifest.limits.max_item_tokens
    across = AcrossWindow.of(source.model, source.vocab_size, max(map(len, runs)), most)
    asked = across.beside(runs)
    on_progress("reference in torch")
    expected = _logits(source, asked)
    noise, moved = None, moved_as_rounded(source.model, manifest)
    if moved is not None:
        with moved:
            noise = compare_logits("noise", _every(expected), _every(_logits(source, asked)))
    on_progress("parity: one item, batch")
    with closing(load_text_backend(place.bundle, ROLE, place.config)) as backend:
        answers = answers_by_form(partial(bundle_logits, backend), asked)
        if options.batch_queries is None:
            batches = batches_of_modes(answers)
        else:
            many = _samples(manifest, options.batch_queries)
            batches = batches_of_sweep(
                backend, many, place.config, lambda size: on_progress(f"{counted(size, 'item')} in a pass")
            )
    modes = _compare(expected, answers)
    on_progress("parity: texts, words, windows")
    tie = _TIE + 4 * max(mode.max_abs_error for mode in modes)
    modes += compare_texts(place, source, tie)
    piped = compare_with_pipeline(manifest, place, source, tie)
    if piped is not None:
        modes.append(piped)
    return Measured(
        modes,
        noise,
        options.tolerance,
        None,
        partial(_drift_from, asked, answers),
        batches=batches,
        reference=compared_with(None, source, manifest.quantization, across.unseen),
        evidence=Evidence("logit", _values(expected, answers)),
    )


def _drift_from(asked: _Asked, answers: _Answered, original: Checkpoint) -> Drift:
    plain = _logits(original, asked)
    return Drift(_compare(plain, answers), None, _values(plain, answers))


def _logits(source: Checkpoint, asked: _Asked) -> _Expected:
    return {name: source_logits(source.model, runs) for name, runs in asked.items()}


def _every(expected: _Expected) -> Rows:
    return [row for rows in expected.values() for row in rows]


def _compare(expected: _Expected, answers: _Answered) -> list[ModeParity]:
    return [compare_logits(mode, expected[form_of(mode)], rows) for mode, rows in answers.items()]


def _samples(manifest: Manifest, count: int = 24) -> Runs:
    return sample_runs(manifest.shape.vocab_size, manifest.limits.max_item_tokens, count=count)


def _values(expected: _Expected, answers: _Answered) -> Series:
    source = [row for mode in answers for row in expected[form_of(mode)]]
    return Series.of("logits", source, [row for rows in answers.values() for row in rows])
