"""The source run the plain way: one text at a time by its own public forward, without padding, pooled by numpy.

What every export of an encoder is measured against; where the folder is one of sentence-transformers, which then runs
it too, see `owners_pipeline`. Shares no code with the exported graph.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.dense import WEIGHTS_FILE
from rankport.exporters.kinds.texts.encoder_module import dense_folders
from rankport.runtime.bundle.manifest import Activation, DenseLayer, Embedding, Pooling

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncoderReference:
    """Embedding tokens of token ids, in fp32, before rounding to the output dtype."""

    model: nn.Module
    form: Embedding  # as the manifest states it
    dense: Sequence[Path]  # folders of the layers of `form.dense`

    @classmethod
    def of(cls, source: Checkpoint, form: Embedding) -> "EncoderReference":
        """Makes the reference of a checkpoint. Raises CheckpointError if it lacks the form's dense layers."""
        return cls(source.model, form, dense_folders(source, form))

    def embeddings(self, runs: Sequence[NDArray[np.int64]]) -> Rows:
        """Encodes runs of token ids. [runs, k, hidden]"""
        return np.stack([self.embedding(run) for run in runs])

    def embedding(self, run: NDArray[np.int64], types: NDArray[np.int64] | None = None) -> Rows:
        """Encodes one run of token ids, with its token types where the model is given some. [k, hidden]"""
        given = {} if types is None else {"token_type_ids": torch.tensor(types)[None]}
        with torch.no_grad():
            states = self.model(**whole_text(self.model, run), **given).last_hidden_state[0]
        return self.tokens(states.float().numpy())

    def tokens(self, hidden: Rows) -> Rows:
        """Makes the embedding tokens of one text's final states [tokens, width]. [k, hidden]"""
        form = self.form
        rows = np.concatenate([_pooled(pooling, hidden, form) for pooling in form.poolings], axis=-1)
        for layer, folder in zip(form.dense, self.dense, strict=True):
            rows = _through(layer, safetensors.numpy.load_file(folder / WEIGHTS_FILE), rows)
        if form.normalize:
            rows = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
        return rows[:, : form.hidden_size].astype(np.float32)


def whole_text(model: nn.Module, run: NDArray[np.int64]) -> dict[str, torch.Tensor]:
    """Makes the inputs of one text as its tokenizer gives them: ids, and a mask that hides none of them.

    Without a mask some models (FlauBERT, XLM) take a padding token for the end of a text, wherever it stands.
    """
    ids = torch.tensor(run)[None]
    takes_mask = "attention_mask" in inspect.signature(model.forward).parameters
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if takes_mask else {"input_ids": ids}


def _pooled(pooling: Pooling, hidden: Rows, form: Embedding) -> Rows:
    """Pools one text's states by the definition in docs/bundle-format.md. [k, width]"""
    kept = hidden[form.skip_tokens :]
    places = np.arange(form.skip_tokens, len(hidden), dtype=np.float32) + 1
    if pooling == "last-k":
        if not len(kept):
            return np.zeros((form.tokens, hidden.shape[1]), np.float32)
        front = np.repeat(hidden[:1], max(0, form.tokens - len(hidden)), axis=0)
        return np.concatenate([front, hidden[-form.tokens :]])
    if pooling == "cls":
        return kept[:1] if len(kept) else hidden[:1]
    if pooling == "max":
        largest: Rows = kept.max(axis=0, keepdims=True, initial=-np.inf)
        return largest
    if not len(kept):
        return np.zeros((1, hidden.shape[1]), np.float32)
    if pooling == "weighted-mean":
        return np.average(kept, axis=0, weights=places)[None].astype(np.float32)
    total = kept.sum(axis=0, keepdims=True)
    rows: Rows = total / np.float32(len(kept) if pooling == "mean" else math.sqrt(len(kept)))
    return rows


def _through(layer: DenseLayer, weights: dict[str, NDArray[np.floating]], rows: Rows) -> Rows:
    made = rows @ weights["linear.weight"].astype(np.float32).T
    if layer.bias:
        made = made + weights["linear.bias"].astype(np.float32)
    made = _activated(layer.activation, made)
    if not layer.residual:
        return made
    return made + (rows @ weights["residual.weight"].T if "residual.weight" in weights else rows)


def _activated(activation: Activation, values: Rows) -> Rows:
    exact = values.astype(np.float64)
    if activation == "tanh":
        exact = np.tanh(exact)
    elif activation == "relu":
        exact = np.maximum(exact, 0)
    elif activation == "sigmoid":
        exact = 1 / (1 + np.exp(-exact))
    elif activation == "silu":
        exact = exact / (1 + np.exp(-exact))
    elif activation == "gelu":
        exact = exact * 0.5 * (1 + np.vectorize(math.erf)(exact / math.sqrt(2)))
    return exact.astype(np.float32)
