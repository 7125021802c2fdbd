"""The source model run by transformers in fp32, the plain way: one full sequence per item, no cache, no padding.

What every export is measured against. Shares no code with the exported graphs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.ranker.module import ReadOut
from rankport.runtime.bundle.manifest import Precision
from rankport.runtime.tokens import EMBEDDED, TokenRun

_BATCH_TOKENS = 4096
_SHAKE = 1e-6


@dataclass(frozen=True, slots=True)
class RankerReference:
    """Label logits of full sequences."""

    checkpoint: Checkpoint
    readout: ReadOut

    def logits(self, prefix: TokenRun, items: Sequence[TokenRun]) -> NDArray[np.float32]:
        """Logits after each prefix + item. Sequences of equal length share a batch. [items, labels]"""
        result = np.empty((len(items), len(self.readout.ids)), np.float32)
        by_length: dict[int, list[int]] = {}
        for i, item in enumerate(items):
            by_length.setdefault(len(item.ids), []).append(i)
        for length, members in by_length.items():
            size = max(1, _BATCH_TOKENS // (length + len(prefix.ids)))
            for start in range(0, len(members), size):
                part = members[start : start + size]
                result[part] = self._full_sequences(prefix, [items[i] for i in part])
        return result

    def _full_sequences(self, prefix: TokenRun, items: Sequence[TokenRun]) -> NDArray[np.float32]:
        model = self.checkpoint.model
        with torch.no_grad():
            inputs = self._inputs(prefix, items)
            if self.readout.source == "classification_head":
                hidden = model.base_model(**inputs, use_cache=False).last_hidden_state  # type: ignore[operator]
                logits = model.score(hidden[:, -1])  # type: ignore[operator]
            else:
                logits = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        rows: NDArray[np.float32] = logits[:, list(self.readout.ids)].float().numpy()
        return rows

    def _inputs(self, prefix: TokenRun, items: Sequence[TokenRun]) -> dict[str, Tensor]:
        """Token ids as users run the model; embeddings only where an item has some."""
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


@contextmanager
def in_half_precision(model: nn.Module, precision: Precision) -> Iterator[None]:
    """While open, the model computes in float16 or bfloat16 as transformers does: its own code says what stays fp32.

    Low-bit weights stay as they are, and what they make of states is in half precision.
    """
    half = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    full = {weight: weight.data for weight in model.parameters()}
    # Rows of a low-bit table are fp32: no parameter tells them otherwise.
    handle = model.get_input_embeddings().register_forward_hook(  # type: ignore[operator]
        lambda module, arguments, rows: rows.to(half)
    )
    try:
        for weight in full:
            weight.data = weight.data.to(half)
        yield
    finally:
        handle.remove()
        for weight, data in full.items():
            weight.data = data


@contextmanager
def shaken(model: nn.Module) -> Iterator[None]:
    """While open, input embeddings are off by one part in a million: about what the order of a sum changes."""
    generator = torch.Generator().manual_seed(0)

    def shake(module: object, arguments: object, rows: Tensor) -> Tensor:
        return rows * (1 + _SHAKE * torch.randn(rows.shape, generator=generator))

    handle = model.get_input_embeddings().register_forward_hook(shake)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()
