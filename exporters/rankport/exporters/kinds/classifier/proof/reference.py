"""The source of a classifier run the plain way: one text at a time, without padding.

By the checkpoint's own class, or by its bare body, pooled and taken through the Dense layers by numpy. Shares no code
with the exported graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.labels.pooled_head import pooled_form
from rankport.exporters.kinds.texts.encoder_reference import EncoderReference
from rankport.exporters.kinds.texts.pairs.reference import PairIds, PairReference
from rankport.runtime.bundle.manifest import ClassHead


class HeadReference(Protocol):
    """A source that answers with logits."""

    def logits(self, pairs: Sequence[PairIds]) -> NDArray[np.float32]:
        """Computes the logits of texts. [texts, labels]"""


@dataclass(frozen=True, slots=True)
class PooledReference:
    """Logits of a body whose states are pooled."""

    encoder: EncoderReference

    def logits(self, pairs: Sequence[PairIds]) -> NDArray[np.float32]:
        """Computes the logits of texts. [texts, labels]"""
        return np.stack([self.encoder.embedding(pair.ids, pair.types)[0] for pair in pairs])


def head_reference(source: Checkpoint, head: ClassHead, outputs: int) -> HeadReference:
    """Makes the reference of a checkpoint. Raises CheckpointError if it lacks the head's dense layers."""
    form = pooled_form(head, outputs)
    if form is None:
        return PairReference(source.model)
    return PooledReference(EncoderReference.of(source, form))
