"""The mode `sentence_transformers`: texts, as the bundle and sentence-transformers each read and encode them."""

from contextlib import closing
from dataclasses import dataclass

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.item_encoder.proof.owners_pipeline import owners_pipeline
from rankport.exporters.kinds.texts.embeddings import compare_embeddings
from rankport.exporters.kinds.texts.sentence_pipeline import MODE, OwnersPipeline, same_ids
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.source_words import source_in_words
from rankport.runtime.bundle.manifest import Manifest, ModeParity
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder


@dataclass(frozen=True, slots=True)
class OwnersAnswers:
    """A comparison with what sentence-transformers makes of texts, where it can run the folder."""

    modes: list[ModeParity]  # one, or none
    compared_with: str | None  # the whole proof, in words; None: by transformers' class alone


def compare_with_owners(manifest: Manifest, place: Runnable, source: Checkpoint) -> OwnersAnswers:
    """Measures texts against sentence-transformers. Raises ParityError if a text becomes other token ids there."""
    plain = source_in_words(source, manifest.quantization)
    pipeline = owners_pipeline(source, manifest)
    if not isinstance(pipeline, OwnersPipeline):
        words = None if pipeline is None else f"{plain}; not with sentence-transformers: {pipeline}"
        return OwnersAnswers([], words)
    texts = same_ids(place.bundle, pipeline)
    with closing(ItemEncoder.load(place.bundle, config=place.config)) as encoder:
        answers = encoder.encode(texts, truncation="truncate")
    mode = compare_embeddings(MODE, pipeline.embeddings(texts), answers)
    return OwnersAnswers([mode], f"{plain}; and {pipeline.name} on {len(texts)} texts")
