"""The peers, each used the way its own documentation shows, on the same checkpoint and the same tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, DynamicCache

from benchmarks.parts.model import Request

_BATCH_TOKENS = 16_384
"""Tokens of one forward pass of a peer: larger ones gain nothing on a CPU and cost memory."""


class TransformersPeer:
    """transformers with sdpa attention, no gradients."""

    def __init__(self, checkpoint: Path) -> None:
        self.model: Any = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, local_files_only=True, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()

    def full_prompts(self, request: Request) -> NDArray[np.float32]:
        """Each item with its own copy of the prefix. [items]"""
        sequences = torch.tensor([request.prefix + item for item in request.items])
        size = max(1, _BATCH_TOKENS // sequences.shape[1])
        with torch.inference_mode():
            parts = [
                self._head(self.model.model(input_ids=part, use_cache=False))
                for part in sequences.split(size)  # type: ignore[no-untyped-call]
            ]
        return torch.cat(parts).numpy()

    def repeated_prefix(self, request: Request) -> NDArray[np.float32]:
        """The prefix once, its KV repeated for every item of a batch. [items]"""
        items = torch.tensor(request.items)
        size = max(1, _BATCH_TOKENS // (len(request.prefix) + items.shape[1]))
        with torch.inference_mode():
            prefix = self.model.model(
                input_ids=torch.tensor([request.prefix]), use_cache=True
            ).past_key_values
            pieces = items.split(size)  # type: ignore[no-untyped-call]
            parts = [self._head(self._continue(prefix, part)) for part in pieces]
        return torch.cat(parts).numpy()

    def _continue(self, prefix: Any, items: torch.Tensor) -> Any:
        cache = DynamicCache(
            [
                (layer.keys.expand(len(items), -1, -1, -1), layer.values.expand(len(items), -1, -1, -1))
                for layer in prefix.layers
            ]
        )
        return self.model.model(input_ids=items, past_key_values=cache, use_cache=True)

    def _head(self, output: Any) -> torch.Tensor:
        logits: torch.Tensor = self.model.score(output.last_hidden_state[:, -1])[:, 0]
        return logits


class CrossEncoderPeer:
    """sentence-transformers' CrossEncoder over (prefix, item) pairs."""

    def __init__(self, checkpoint: Path) -> None:
        from sentence_transformers import CrossEncoder

        self.model = CrossEncoder(str(checkpoint), num_labels=1, device="cpu", local_files_only=True)

    def score(self, request: Request) -> NDArray[np.float32]:
        """[items]"""
        prefix, items = request.texts()
        scores = self.model.predict(
            [(prefix, item) for item in items], activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        return np.asarray(scores, np.float32)
