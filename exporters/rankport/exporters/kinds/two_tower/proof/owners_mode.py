"""The modes of sentence-transformers over a sparse encoder's folder: texts, as both read and weigh them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sparse.form import SparseForm
from rankport.exporters.checkpoints.sparse.module import SparseEncoder
from rankport.exporters.kinds.texts.embeddings import compare_embeddings
from rankport.exporters.kinds.texts.samples import overlong_text, sample_texts
from rankport.exporters.kinds.texts.sentence_pipeline import (
    MODE,
    library_in_words,
    load_by_library,
    pipeline_obstacle,
    require_same_ids,
)
from rankport.exporters.proof.emulation import Runnable
from rankport.protos.types import Side
from rankport.runtime.bundle.manifest import Manifest, ModeParity
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class OwnersAnswers:
    """A comparison with what sentence-transformers makes of texts, where it can run the folder."""

    modes: list[ModeParity]  # one a side, or none
    words: str  # that say so, or why not; "" of what is no sparse encoder


def compare_with_owners(manifest: Manifest, place: Runnable, source: Checkpoint) -> OwnersAnswers:
    """Measures texts against sentence-transformers. Raises ParityError if a text becomes other token ids there."""
    if not isinstance(source.model, SparseEncoder):
        return OwnersAnswers([], "")
    why = pipeline_obstacle(source, manifest)
    if why is None and not source.library_reads:
        why = "it would run code to read the folder"
    if why is None:
        from sentence_transformers import SparseEncoder as Library

        owner = load_by_library(Library, source)
        if not isinstance(owner, str):
            return _compared(manifest, place, source.model.form, owner.eval())
        why = owner
    return OwnersAnswers([], f"; not with sentence-transformers: {why}")


def _compared(manifest: Manifest, place: Runnable, form: SparseForm, owner: Any) -> OwnersAnswers:
    assert manifest.tokenizer is not None  # without one the library has no pipeline
    tokenizer = Tokenizer.from_file(place.bundle.file(manifest.tokenizer))
    prompt, limits = PromptEncoder.from_bundle(place.bundle), manifest.limits
    sides: dict[Side, tuple[int, int | None, Any]] = {
        "query": (limits.max_prefix_tokens, form.query_tokens, owner.encode_query),
        "item": (limits.max_item_tokens, form.item_tokens, owner.encode_document),
    }
    modes, count = list[ModeParity](), 0
    with Towers.load(place.bundle, config=place.config) as towers:
        for side, (limit, stated, encode) in sides.items():
            drawn = sample_texts(tokenizer, limit)
            runs = {text: _ids(prompt, side, text) for text in [*drawn, overlong_text(drawn, limit)]}
            # A text is cut there as here where both have one limit.
            checked = [text for text, ids in runs.items() if stated == limit or len(ids) < limit]
            for text in checked:
                require_same_ids(runs[text], _owners_ids(owner, side, text), text, tokenizer)
            texts = [text for text in checked if text in drawn]
            weights = towers.encode_sparse(texts, truncation="truncate", side=side).to_dense()
            modes.append(compare_embeddings(f"{side}_{MODE}", _rows(encode, texts), weights[:, None]))
            count += len(texts)
    return OwnersAnswers(modes, f"; and {library_in_words(renamed=False)} on {count} texts")


def _ids(prompt: PromptEncoder, side: Side, text: str) -> NDArray[np.int64]:
    if side == "query":
        return prompt.encode_prefix(text, "truncate").run.ids
    return prompt.encode_items([text], "truncate").runs.ids


def _owners_ids(owner: Any, side: Side, text: str) -> NDArray[np.int64]:
    task = "query" if side == "query" else "document"
    prompt = owner.prompts.get(task) or None
    ids: NDArray[np.int64] = owner.preprocess([text], prompt=prompt, task=task)["input_ids"][0].numpy()
    return ids


def _rows(encode: Any, texts: Sequence[str]) -> NDArray[np.float32]:
    """Weighs texts, one a pass, so that none is padded. [texts, 1, vocabulary]"""
    rows: NDArray[np.float32] = encode(list(texts), batch_size=1, show_progress_bar=False).to_dense().numpy()
    return rows[:, None, :]
