"""sentence-transformers itself over a CrossEncoder's folder: the pipeline that the owner of a cross-encoder runs.

Loaded offline, in fp32, on the CPU, from the folder alone. Nothing of what was exported goes into it but a lower limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.cross_encoder import CrossEncoderFolder
from rankport.exporters.kinds.texts.sentence_pipeline import (
    library_in_words,
    load_by_library,
    pipeline_obstacle,
)
from rankport.runtime.bundle.manifest import Manifest


@dataclass(frozen=True, slots=True)
class OwnersPipeline:
    """A loaded CrossEncoder."""

    model: Any
    renamed: bool = False  # of a published layout: it reads a copy in transformers' words

    @property
    def name(self) -> str:
        """Library and version, and what it reads if that is not the folder."""
        return library_in_words(self.renamed)

    def logits(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Predicts without activation, one pair a pass, so that none is padded. [pairs, labels]"""
        return self._predicted(pairs, torch.nn.Identity()).reshape(len(pairs), -1)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Predicts with the folder's own activation. [pairs], or [pairs, labels] of several labels"""
        return self._predicted(pairs, None)

    def _predicted(self, pairs: Sequence[tuple[str, str]], activation: Any) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self.model.predict(
            list(pairs),
            activation_fn=activation,
            batch_size=1,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return rows


def owners_pipeline(source: Checkpoint, manifest: Manifest) -> OwnersPipeline | str | None:
    """Loads the pipeline of a folder that sentence-transformers wrote; a text says why there is none.

    None for another checkpoint.
    """
    if not CrossEncoderFolder.read(source.path).is_own:
        return None
    if "cut" in manifest.source.overrides:
        return "--cut may say otherwise than the folder"
    if source.head == "seq2seq_lm_head":
        return "it knows no answer by the first token of an encoder-decoder"
    return pipeline_obstacle(source, manifest) or _loaded(source, manifest)


def _loaded(source: Checkpoint, manifest: Manifest) -> OwnersPipeline | str:
    from sentence_transformers import CrossEncoder

    assert manifest.pair is not None
    model = load_by_library(CrossEncoder, source)
    if isinstance(model, str):
        return model
    if "max_pair_tokens" in manifest.source.overrides:
        model.max_seq_length = manifest.pair.max_tokens
    return OwnersPipeline(model.eval(), not source.library_reads)
