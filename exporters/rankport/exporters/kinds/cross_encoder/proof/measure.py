"""The proof of a cross-encoder bundle: pairs alone and padded beside others, in either order, and over the limit."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.cross_encoder.proof.owners_mode import owners_answers
from rankport.exporters.kinds.cross_encoder.proof.reference import PairReference
from rankport.exporters.kinds.cross_encoder.proof.samples import SampledPairs, sampled_pairs, together
from rankport.exporters.kinds.labels.score_checks import check_labels, check_scores
from rankport.exporters.kinds.texts.pair_frame import PairFrame, PairTokenizer, inputs_of
from rankport.exporters.options.prompts import tokenizer_of
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.batches import batch_independence
from rankport.exporters.proof.compare import Logits, RankValues, compare
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Evidence, Series
from rankport.exporters.proof.noise import moved_as_rounded
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.backends.contract import TextBackend
from rankport.runtime.bundle.manifest import Manifest, ModeParity
from rankport.runtime.kinds.scores import rank_values

_ALONE = 1


def measure_cross_encoder(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures a cross-encoder; a `proof.prove.Measure`.

    Raises ParityError if pairs become other token ids than by the checkpoint's own tokenizer.
    """
    labels, score = manifest.labels, manifest.score
    assert labels is not None
    assert score is not None
    check_labels(labels, source)
    order = partial(rank_values, positive=labels.positive, transform=score.transform)
    samples = _samples(manifest, source)
    on_progress("reference in torch")
    reference = PairReference(source.model)
    expected = {part.mode: reference.logits(part.source) for part in samples}
    moved, noise = moved_as_rounded(source.model, manifest), None
    if moved is not None:
        with moved:
            again = [reference.logits(part.source) for part in samples]
            noise = compare("noise", list(expected.values()), again, order)
    on_progress("parity: sentence-transformers")
    asked = together([part for part in samples if part.mode in ("pair", "truncation")])
    owner = owners_answers(manifest, source, asked)
    answers = _answers(place, samples, on_progress)
    check_scores(labels, score, [logits for by_size in answers.values() for logits in by_size.values()])
    served = [logits for mode in ("pair", "truncation") for logits in _served(samples, answers, mode)]
    modes, drift = _modes(samples, expected, answers, order), list[ModeParity]()
    # Of a model quantized here, what its owner ran is the original: that is drift.
    (modes if manifest.quantization is None else drift).extend(owner.mode(served, order))
    return Measured(
        modes,
        noise,
        options.tolerance,
        None,
        partial(_drift_from, samples, answers, order, drift),
        reference=owner.compared_with,
        batches=batch_independence(_rankings(samples, answers, order)),
        evidence=Evidence("label logit", _series(samples, expected, answers)),
    )


Answers = Mapping[str, Mapping[int, Logits]]
"""Logits [pairs, labels] by mode, and by how many pairs shared a pass; the largest is all of them."""


def _samples(manifest: Manifest, source: Checkpoint) -> list[SampledPairs]:
    file = source.tokenizer_file
    inputs = inputs_of(source.model, typed=PairFrame.of(file).typed)
    owner = None if file is None else PairTokenizer.of(file)
    return sampled_pairs(manifest, tokenizer_of(file), owner, inputs)


def _answers(place: Runnable, samples: Sequence[SampledPairs], on_progress: Progress) -> Answers:
    answers: dict[str, dict[int, Logits]] = {}
    with closing(load_text_backend(place.bundle, "score", place.config)) as backend:
        for part in samples:
            on_progress(f"parity: {part.mode}")
            sizes = (_ALONE, len(part.runs)) if part.mode == "pair" else (len(part.runs),)
            answers[part.mode] = {size: _in_passes(backend, part, size) for size in sizes}
    return answers


def _in_passes(backend: TextBackend, part: SampledPairs, size: int) -> Logits:
    starts = range(0, len(part.runs), size)
    passes = [backend.compute(part.runs.part(start, min(start + size, len(part.runs)))) for start in starts]
    return np.concatenate(passes).astype(np.float32)


def _modes(
    samples: Sequence[SampledPairs],
    expected: Mapping[str, NDArray[np.float32]],
    answers: Answers,
    order: RankValues,
) -> list[ModeParity]:
    modes = []
    for part in samples:
        for size, logits in answers[part.mode].items():
            alone = part.mode == "pair" and size == _ALONE
            name = "one_item" if alone else "batch" if part.mode == "pair" else part.mode
            modes.append(compare(name, part.cut(expected[part.mode]), part.cut(logits), order))
    return modes


def _served(samples: Sequence[SampledPairs], answers: Answers, mode: str) -> list[Logits]:
    """Takes the logits of each request of a mode, all in one pass."""
    return [rows for part in samples if part.mode == mode for rows in part.cut(answers[mode][len(part.runs)])]


def _rankings(
    samples: Sequence[SampledPairs], answers: Answers, order: RankValues
) -> dict[int, list[NDArray[np.float64]]]:
    (part,) = (part for part in samples if part.mode == "pair")
    return {size: [order(rows) for rows in part.cut(logits)] for size, logits in answers["pair"].items()}


def _series(
    samples: Sequence[SampledPairs], expected: Mapping[str, NDArray[np.float32]], answers: Answers
) -> Series:
    pairs = [(expected[part.mode], logits) for part in samples for logits in answers[part.mode].values()]
    return Series.of("logits", [source for source, _ in pairs], [bundle for _, bundle in pairs])


def _drift_from(
    samples: Sequence[SampledPairs],
    answers: Answers,
    order: RankValues,
    owner: list[ModeParity],
    original: Checkpoint,
) -> Drift:
    reference = PairReference(original.model)
    plain = {part.mode: reference.logits(part.source) for part in samples}
    return Drift([*_modes(samples, plain, answers, order), *owner], None, _series(samples, plain, answers))
