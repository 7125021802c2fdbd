"""The source model run by transformers in fp32, the plain way: one full sequence per item, no cache, no padding.

What every export is measured against: the public `forward` of the checkpoint's own class, its head and the place where
it is read included. Shares no code with the exported graphs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.exporters.kinds.texts.encoder_reference import EncoderReference
from rankport.runtime.tokens import EMBEDDED, TokenRun

_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class RankerReference:
    """Label logits of full sequences."""

    checkpoint: Checkpoint
    readout: ReadOut
    pooled: EncoderReference | None = None  # what takes a bare body's states to logits

    def logits(self, prefix: TokenRun, items: Sequence[TokenRun]) -> NDArray[np.float32]:
        """Computes the logits after each prefix + item. Sequences of equal length share a batch. [items, labels]"""
        result = np.empty((len(items), len(self.readout.ids)), np.float32)
        by_length: dict[int, list[int]] = {}
        for i, item in enumerate(items):
            by_length.setdefault(len(item.ids), []).append(i)
        # Heads warn that they see no padding among embeddings: there is none.
        with torch.no_grad(), quiet():
            for length, members in by_length.items():
                size = self._batch_size(length + len(prefix.ids))
                for start in range(0, len(members), size):
                    part = members[start : start + size]
                    result[part] = self._full_sequences(prefix, [items[i] for i in part])
        return result

    def _batch_size(self, length: int) -> int:
        classifies = self.readout.source == "classification_head" and self.pooled is None
        config = self.checkpoint.model.config.get_text_config()  # type: ignore[union-attr, operator]
        if classifies and config.pad_token_id is None:
            return 1  # transformers' heads refuse more without a pad token
        return max(1, _BATCH_TOKENS // length)

    def _full_sequences(self, prefix: TokenRun, items: Sequence[TokenRun]) -> NDArray[np.float32]:
        model, inputs = self.checkpoint.model, self._inputs(prefix, items)
        if self.pooled is not None:
            states = model(**inputs, use_cache=False).last_hidden_state.float().numpy()
            return np.stack([self.pooled.tokens(state)[0] for state in states])
        if self.readout.source == "classification_head":
            logits = model(**inputs, use_cache=False).logits
        else:
            logits = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        rows: NDArray[np.float32] = logits[:, list(self.readout.ids)].float().numpy()
        return rows

    def _inputs(self, prefix: TokenRun, items: Sequence[TokenRun]) -> dict[str, Tensor]:
        """Makes token ids, as users run the model; embeddings only where an item has some."""
        if all(run.embeddings is None for run in (prefix, *items)):
            ids = [np.concatenate([prefix.ids, item.ids]) for item in items]
            return {"input_ids": torch.tensor(np.stack(ids))}
        states = [torch.cat([self._embed(prefix), self._embed(item)]) for item in items]
        return {"inputs_embeds": torch.stack(states)}

    def _embed(self, run: TokenRun) -> Tensor:
        ids = torch.tensor(run.ids)
        states: Tensor = self.checkpoint.model.get_input_embeddings()(ids.clamp(min=0))  # type: ignore[operator]
        if run.embeddings is not None:
            states = states.clone()
            states[ids == EMBEDDED] = torch.tensor(run.embeddings).to(states.dtype)
        return states
