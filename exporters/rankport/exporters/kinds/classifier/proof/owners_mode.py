"""The mode `sentence_transformers`: logits of texts by a folder's pooling and Dense layers, as its owner runs them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.folder import read_encoder_folder
from rankport.exporters.kinds.texts.sentence_pipeline import (
    MODE,
    OwnersPipeline,
    load_pipeline,
    pipeline_obstacle,
    same_ids,
)
from rankport.exporters.proof.compare import compare, first_label
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.source_words import source_in_words
from rankport.runtime.bundle.manifest import Manifest, ModeParity
from rankport.runtime.kinds.classifier.text_classifier import TextClassifier


@dataclass(frozen=True, slots=True)
class OwnersClasses:
    """A comparison with what sentence-transformers makes of texts, where it can run the folder."""

    modes: list[ModeParity]  # one, or none
    compared_with: str | None  # the whole proof, in words; None: by transformers' class alone


def compare_classes_with_owners(manifest: Manifest, place: Runnable, source: Checkpoint) -> OwnersClasses:
    """Measures texts against sentence-transformers. Raises ParityError if a text becomes other token ids there."""
    if source.head != "none":
        return OwnersClasses([], None)
    plain = source_in_words(source, manifest.quantization)
    pipeline = _pipeline(manifest, source)
    if isinstance(pipeline, str):
        return OwnersClasses([], f"{plain}; not with sentence-transformers: {pipeline}")
    texts = same_ids(place.bundle, pipeline)
    with TextClassifier.load(place.bundle, config=place.config) as classifier:
        logits = classifier.submit_classify(texts, truncation="truncate").result().logits
    mode = compare(MODE, _by_text(pipeline.embeddings(texts)[:, 0]), _by_text(logits), first_label)
    return OwnersClasses([mode], f"{plain}; and {pipeline.name} on {len(texts)} texts")


def _pipeline(manifest: Manifest, source: Checkpoint) -> OwnersPipeline | str:
    folder = read_encoder_folder(source.path)
    assert folder is not None
    if manifest.pair is not None:
        return "it reads single texts"
    if "prompt" in manifest.source.overrides:
        return "--prompt may say otherwise than the folder"
    return pipeline_obstacle(source, manifest) or load_pipeline(source, manifest, folder.prompt(None))


def _by_text(logits: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Makes each text a request whose items are its labels. [labels, 1] each"""
    return list(logits[:, :, None])
