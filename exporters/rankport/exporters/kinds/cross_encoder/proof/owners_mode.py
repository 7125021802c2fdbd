"""The mode `sentence_transformers`: logits and scores of a bundle against the library that its owner runs."""

from dataclasses import dataclass

import numpy as np

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.cross_encoder.proof.owners_pipeline import OwnersPipeline, owners_pipeline
from rankport.exporters.kinds.texts.pairs.samples import SampledTexts
from rankport.exporters.proof.compare import Logits, RankValues, compare
from rankport.exporters.proof.source_words import source_in_words
from rankport.protos.errors import ParityError
from rankport.protos.scores import label_scores
from rankport.runtime.bundle.manifest import Manifest, ModeParity

MODE = "sentence_transformers"
_ROUNDING = 1e-4
"""Largest difference of a score of equal logits: what a sigmoid in fp32 and the order of sums move."""


@dataclass(frozen=True, slots=True)
class OwnersAnswers:
    """Answers of the owner's pipeline for pairs, if there is one."""

    expected: list[Logits]  # of each request; none without a pipeline
    compared_with: str | None  # in words

    def mode(self, answers: list[Logits], order: RankValues) -> list[ModeParity]:
        """Compares a bundle's logits of the same requests."""
        return [compare(MODE, self.expected, answers, order)] if self.expected else []


def owners_answers(manifest: Manifest, source: Checkpoint, part: SampledTexts) -> OwnersAnswers:
    """Has the folder's own pipeline answer pairs of texts, those over the limit too.

    Raises ParityError where its scores are not the manifest's score of its logits, and no option asked for that.
    """
    pipeline = owners_pipeline(source, manifest)
    if pipeline is None:
        return OwnersAnswers([], None)
    plain = source_in_words(source, manifest.quantization)
    if isinstance(pipeline, str):
        return OwnersAnswers([], f"{plain}; not sentence-transformers itself: {pipeline}")
    logits = pipeline.logits(part.texts)
    _check_scores(manifest, pipeline, part, logits)
    return OwnersAnswers(part.cut(logits), f"{plain}; and {pipeline.name} on {len(part.texts)} pairs")


def _check_scores(manifest: Manifest, pipeline: OwnersPipeline, part: SampledTexts, logits: Logits) -> None:
    labels, score = manifest.labels, manifest.score
    assert labels is not None
    assert score is not None
    # Of labels that compete a score is made of all, where the library gives each by itself.
    if score.transform in ("softmax", "log-odds") or "score" in manifest.source.overrides:
        return
    theirs = pipeline.scores(part.texts).reshape(logits.shape)[:, labels.positive]
    ours = label_scores(logits, labels.positive, score.transform)
    off = np.abs(ours - theirs)
    if off.max() > _ROUNDING:
        worst = int(np.argmax(off))
        raise ParityError(
            f"score: {score.transform} of the logit {logits[worst, labels.positive]:.6g} is {ours[worst]:.6g}, and "
            f"sentence-transformers gives {theirs[worst]:.6g}: the folder's activation is another"
        )
