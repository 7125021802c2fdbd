"""The mode `sentence_transformers`: texts, as the bundle and sentence-transformers each read and encode them."""

from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.item_encoder.proof.owners_pipeline import OwnersPipeline, owners_pipeline
from rankport.exporters.kinds.texts.embeddings import compare_embeddings
from rankport.exporters.kinds.texts.samples import overlong_text, sample_texts
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.source_words import source_in_words
from rankport.protos.errors import ParityError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest, ModeParity
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer

MODE = "sentence_transformers"


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
    texts = _same_ids(place.bundle, pipeline)
    with closing(ItemEncoder.load(place.bundle, config=place.config)) as encoder:
        answers = encoder.encode(texts, truncation="truncate")
    mode = compare_embeddings(MODE, pipeline.embeddings(texts), answers)
    return OwnersAnswers([mode], f"{plain}; and {pipeline.name} on {len(texts)} texts")


def _same_ids(bundle: Bundle, pipeline: OwnersPipeline) -> list[str]:
    """Draws texts, and checks that both read them as the same token ids."""
    manifest = bundle.manifest
    assert manifest.tokenizer is not None
    tokenizer = Tokenizer.from_file(bundle.file(manifest.tokenizer))
    texts = sample_texts(tokenizer, manifest.limits.max_item_tokens)
    checked = [*texts, overlong_text(texts, manifest.limits.max_item_tokens)]
    runs = PromptEncoder(manifest, tokenizer).encode_items(checked, "truncate").runs
    for place, text in enumerate(checked):
        start, end = runs.offsets[place : place + 2]
        _require_same(runs.ids[start:end], pipeline.ids(text), text, tokenizer)
    return texts


def _require_same(
    ours: NDArray[np.int64], owners: NDArray[np.int64], text: str, tokenizer: Tokenizer
) -> None:
    if np.array_equal(ours, owners):
        return
    shared = min(len(ours), len(owners))
    place = next((i for i in range(shared) if ours[i] != owners[i]), shared)
    shown = [tokenizer.decode(ids[place : place + 3]) for ids in (ours, owners)]
    raise ParityError(
        f"{MODE}: {text[:40]!r} is {len(ours)} tokens in the bundle and {len(owners)} in sentence-transformers; "
        f"from token {place} on {shown[0]!r} and {shown[1]!r}: tokenizer_config.json must make the ids of "
        "tokenizer.json, or the prompt and limits of the bundle are other ones"
    )
