"""The proof of a classifier bundle: texts or pairs alone and padded beside others, and over the limit.

A text is compared as a request whose items are its labels: that their order stays is what a classifier is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.folder import read_encoder_folder
from rankport.exporters.kinds.classifier.head import resolve_head
from rankport.exporters.kinds.classifier.limits import classifier_limit
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.classifier.plan import classifier_inputs
from rankport.exporters.kinds.classifier.proof.class_checks import check_classes
from rankport.exporters.kinds.classifier.proof.judged import JudgedClasses
from rankport.exporters.kinds.classifier.proof.owners_mode import compare_classes_with_owners
from rankport.exporters.kinds.classifier.proof.reference import HeadReference, head_reference
from rankport.exporters.kinds.classifier.proof.samples import sampled_texts
from rankport.exporters.kinds.texts.across_window import with_runs_across
from rankport.exporters.kinds.texts.head_answers import (
    Answers,
    answers_of,
    modes_of,
    noise_of,
    rankings_of,
    series_of,
)
from rankport.exporters.kinds.texts.pairs.frame import PairTokenizer
from rankport.exporters.kinds.texts.pairs.samples import SampledTexts, sampled_pairs
from rankport.exporters.kinds.texts.sweep import drawn_requests, swept
from rankport.exporters.options.prompts import tokenizer_of
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.batches import batch_independence
from rankport.exporters.proof.compare import Logits, first_label
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Evidence
from rankport.exporters.proof.noise import moved_as_rounded
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.exporters.proof.source_words import compared_with
from rankport.protos.errors import ParityError
from rankport.runtime.bundle.manifest import ClassHead, Manifest, ModeParity
from rankport.runtime.prompt.pairs import PairEncoder


def measure_classifier(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    """Measures a classifier; a `proof.prove.Measure`.

    Raises ParityError if the bundle has other labels, or makes other token ids of a text, than the checkpoint.
    """
    head, outputs = _head(manifest), _outputs(manifest)
    _require_same_head(manifest, source)
    _require_same_limit(manifest, source)
    judged = _judged(manifest, place, source, options)
    asked, unseen = with_runs_across(
        _samples(manifest, source), source.model, source.vocab_size, manifest.limits.max_item_tokens
    )
    on_progress("reference in torch")
    reference = head_reference(source, head, outputs)
    expected = _expected(reference, asked)
    samples = [_by_label(part, outputs) for part in asked]
    moved, noise = moved_as_rounded(source.model, manifest), None
    if moved is not None:
        with moved:
            again = _expected(head_reference(source, head, outputs), asked)
        noise = noise_of(samples, expected, again, first_label)
    on_progress("parity: sentence-transformers")
    owner = compare_classes_with_owners(manifest, place, source)
    rows = answers_of(place, "classify", asked, on_progress)
    check_classes(head, [logits for by_size in rows.values() for logits in by_size.values()])
    answers = {
        mode: {size: _flat(logits) for size, logits in by_size.items()} for mode, by_size in rows.items()
    }
    if options.batch_queries is None:
        batches = batch_independence(rankings_of(samples, answers, first_label))
    else:
        pairs = None if manifest.pair is None else PairEncoder(manifest, tokenizer_of(source.tokenizer_file))
        many = drawn_requests(manifest, pairs, options.batch_queries)
        batches = swept(place, "classify", many, _labels_of, on_progress)
    modes, drift = modes_of(samples, expected, answers, first_label), list[ModeParity]()
    # Of a model quantized here, what its owner ran is the original: that is drift.
    (modes if manifest.quantization is None else drift).extend(owner.modes)
    return Measured(
        modes,
        noise,
        options.tolerance,
        None if judged is None else judged.quality(reference),
        partial(_drift_from, head, outputs, asked, answers, judged, drift),
        reference=compared_with(owner.compared_with, source, manifest.quantization, unseen),
        batches=batches,
        evidence=Evidence("label logit", series_of(samples, expected, answers)),
    )


def _judged(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions
) -> JudgedClasses | None:
    if not options.judged_texts:
        return None
    typed = "token_type_ids" in classifier_inputs(source, paired=manifest.pair is not None)
    return JudgedClasses.run(options.judged_texts, manifest, place, typed=typed)


def _samples(manifest: Manifest, source: Checkpoint) -> list[SampledTexts]:
    file = source.tokenizer_file
    owner = None if file is None else PairTokenizer.of(file)
    if manifest.pair is not None:
        return sampled_pairs(manifest, tokenizer_of(file), owner, classifier_inputs(source, paired=True))
    return sampled_texts(manifest, tokenizer_of(file), owner, _before(manifest, source))


def _before(manifest: Manifest, source: Checkpoint) -> str | None:
    """Gives the text that the owner puts before each; None of a prompt that an option named."""
    if "prompt" in manifest.source.overrides:
        return None
    folder = read_encoder_folder(source.path) if source.head == "none" else None
    return "" if folder is None else folder.prompt(None)


def _expected(reference: HeadReference, asked: Sequence[SampledTexts]) -> Mapping[str, Logits]:
    return {part.mode: _flat(reference.logits(part.source)) for part in asked}


def _by_label(part: SampledTexts, outputs: int) -> SampledTexts:
    """Makes each text a request whose items are its labels."""
    return replace(part, requests=[outputs] * len(part.runs))


def _labels_of(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Orders the labels of all texts of a request. [texts * labels]"""
    return logits.reshape(-1).astype(np.float64)


def _flat(logits: NDArray[np.float32]) -> Logits:
    """Lays rows of labels out as items of one logit each. [texts * labels, 1]"""
    return logits.reshape(-1, 1)


def _drift_from(
    head: ClassHead,
    outputs: int,
    asked: Sequence[SampledTexts],
    answers: Answers,
    judged: JudgedClasses | None,
    owner: list[ModeParity],
    original: Checkpoint,
) -> Drift:
    reference = head_reference(original, head, outputs)
    plain = _expected(reference, asked)
    samples = [_by_label(part, outputs) for part in asked]
    quality = None if judged is None else judged.quality(reference)
    modes = [*modes_of(samples, plain, answers, first_label), *owner]
    return Drift(modes, quality, series_of(samples, plain, answers))


def _require_same_head(manifest: Manifest, source: Checkpoint) -> None:
    """Raises ParityError for labels or a head that the checkpoint states otherwise."""
    assert manifest.labels is not None
    renamed = "labels" in manifest.source.overrides
    labels, head = resolve_head(source, manifest.labels.names if renamed else None)
    for what, ours, theirs in (
        ("labels.names", manifest.labels.names, labels.names),
        ("head", manifest.head, head),
    ):
        if ours != theirs:
            raise ParityError(f"{what}: the bundle says {ours}, the checkpoint {theirs}")


def _require_same_limit(manifest: Manifest, source: Checkpoint) -> None:
    """Raises ParityError for a limit that no option asked for, and that is not the checkpoint's."""
    stated = ClassifierOptions(texts="one" if manifest.pair is None else "pair")
    if {"max_item_tokens", "max_pair_tokens"}.isdisjoint(manifest.source.overrides):
        most = classifier_limit(source, stated)
        if manifest.limits.max_item_tokens != most:
            raise ParityError(
                f"limits: the bundle reads {manifest.limits.max_item_tokens} tokens, the checkpoint {most}, and no "
                "option asked for another limit"
            )


def _head(manifest: Manifest) -> ClassHead:
    assert manifest.head is not None
    return manifest.head


def _outputs(manifest: Manifest) -> int:
    assert manifest.labels is not None
    return len(manifest.labels.names)
