"""The proof of a cross-encoder bundle: pairs alone and padded beside others, in either order, and over the limit."""

from collections.abc import Sequence
from functools import partial

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.cross_encoder.first_token import answers_by_token
from rankport.exporters.kinds.cross_encoder.prompted import reads_prompt
from rankport.exporters.kinds.cross_encoder.proof.first_token import FirstTokenReference, prompted_pairs
from rankport.exporters.kinds.cross_encoder.proof.owners_mode import owners_answers
from rankport.exporters.kinds.labels.score_checks import check_labels, check_scores
from rankport.exporters.kinds.texts.across_window import with_runs_across
from rankport.exporters.kinds.texts.head_answers import (
    Answers,
    answers_of,
    modes_of,
    noise_of,
    rankings_of,
    series_of,
)
from rankport.exporters.kinds.texts.pairs.frame import PairFrame, PairTokenizer, inputs_of
from rankport.exporters.kinds.texts.pairs.reference import PairReference
from rankport.exporters.kinds.texts.pairs.samples import SampledTexts, sampled_pairs, together
from rankport.exporters.kinds.texts.sweep import drawn_requests, swept
from rankport.exporters.options.prompts import tokenizer_of
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.batches import batch_independence
from rankport.exporters.proof.compare import Logits, RankValues
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.evidence import Evidence
from rankport.exporters.proof.noise import moved_as_rounded
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.exporters.proof.source_words import compared_with
from rankport.protos.scores import rank_values
from rankport.runtime.bundle.manifest import Labels, Manifest, ModeParity
from rankport.runtime.prompt.pair_prompts import pair_reader


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
    assert manifest.pair is not None
    samples, unseen = with_runs_across(
        _samples(manifest, source), source.model, source.vocab_size, manifest.pair.max_tokens
    )
    on_progress("reference in torch")
    reference = _reference(labels, source)
    expected = {part.mode: reference.logits(part.source) for part in samples}
    moved, noise = moved_as_rounded(source.model, manifest), None
    if moved is not None:
        with moved:
            again = {part.mode: reference.logits(part.source) for part in samples}
        noise = noise_of(samples, expected, again, order)
    on_progress("parity: sentence-transformers")
    asked = together([part for part in samples if part.mode in ("pair", "truncation")])
    owner = owners_answers(manifest, source, asked)
    answers = answers_of(place, "score", samples, on_progress)
    check_scores(labels, score, [logits for by_size in answers.values() for logits in by_size.values()])
    served = [logits for mode in ("pair", "truncation") for logits in _served(samples, answers, mode)]
    if options.batch_queries is None:
        batches = batch_independence(rankings_of(samples, answers, order))
    else:
        pairs = pair_reader(manifest, tokenizer_of(source.tokenizer_file))
        many = drawn_requests(manifest, pairs, options.batch_queries)
        batches = swept(place, "score", many, order, on_progress)
    modes, drift = modes_of(samples, expected, answers, order), list[ModeParity]()
    # Of a model quantized here, what its owner ran is the original: that is drift.
    (modes if manifest.quantization is None else drift).extend(owner.mode(served, order))
    return Measured(
        modes,
        noise,
        options.tolerance,
        None,
        partial(_drift_from, labels, samples, answers, order, drift),
        reference=compared_with(owner.compared_with, source, manifest.quantization, unseen),
        batches=batches,
        evidence=Evidence("label logit", series_of(samples, expected, answers)),
    )


def _samples(manifest: Manifest, source: Checkpoint) -> list[SampledTexts]:
    file = source.tokenizer_file
    if reads_prompt(source):
        return prompted_pairs(manifest, tokenizer_of(file))
    inputs = inputs_of(source.model, typed=PairFrame.of(file).typed)
    owner = None if file is None else PairTokenizer.of(file)
    return sampled_pairs(manifest, tokenizer_of(file), owner, inputs)


def _reference(labels: Labels, source: Checkpoint) -> PairReference | FirstTokenReference:
    if answers_by_token(source):
        return FirstTokenReference(source.model, labels.ids)
    return PairReference(source.model)


def _served(samples: Sequence[SampledTexts], answers: Answers, mode: str) -> list[Logits]:
    """Takes the logits of each request of a mode, all in one pass."""
    return [rows for part in samples if part.mode == mode for rows in part.cut(answers[mode][len(part.runs)])]


def _drift_from(
    labels: Labels,
    samples: Sequence[SampledTexts],
    answers: Answers,
    order: RankValues,
    owner: list[ModeParity],
    original: Checkpoint,
) -> Drift:
    reference = _reference(labels, original)
    plain = {part.mode: reference.logits(part.source) for part in samples}
    return Drift(
        [*modes_of(samples, plain, answers, order), *owner], None, series_of(samples, plain, answers)
    )
