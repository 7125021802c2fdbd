"""A small causal attention model in numpy float64: a real backend to test engines with, and its own judge.

`ReferenceBackend` scores from KV handles, run by run; `full_sequence` evaluates whole sequences without any.
They share the weights and nothing else, so an engine over the backend is right exactly when both agree.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch, PrefixKV, Started
from rankport.runtime.kinds.ranker.engine import Engine, Scored
from rankport.runtime.tokens import EMBEDDED, TokenRun, TokenRuns

VOCAB, HIDDEN, LAYERS, LABELS = 50, 8, 2, 2
Array = NDArray[np.float64]


@dataclass(eq=False)
class ReferenceKV:
    """Keys and values [layers, 2, tokens, hidden]; splitting ends its life."""

    values: Array
    alive: bool = True

    @property
    def length(self) -> int:
        return self.values.shape[2]

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


KV_BYTES = LAYERS * 2 * HIDDEN * 8
"""Of one token."""


class ReferenceModel:
    """Random weights; attention with positions added to keys and queries, and a tanh layer."""

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.embedding = draw.normal(size=(VOCAB, HIDDEN))
        self.qkv = draw.normal(size=(LAYERS, 3, HIDDEN, HIDDEN)) / np.sqrt(HIDDEN)
        self.mlp = draw.normal(size=(LAYERS, HIDDEN, HIDDEN)) / np.sqrt(HIDDEN)
        self.head = draw.normal(size=(HIDDEN, LABELS))

    def embed(self, run: TokenRun) -> Array:
        """[tokens, hidden]"""
        embedded = self.embedding[np.maximum(run.ids, 0)]
        if run.embeddings is not None:
            embedded[run.ids == EMBEDDED] = run.embeddings
        return embedded

    def full_sequence(self, prefix: TokenRun, item: TokenRun) -> Array:
        """Logits after the last token of prefix + item, computed in one go. [labels]"""
        hidden = np.concatenate([self.embed(prefix), self.embed(item)])
        visible = np.tril(np.ones((len(hidden), len(hidden)), bool))
        for layer in range(LAYERS):
            query, key, value = hidden @ self.qkv[layer]
            query, key = (side + _positions(0, len(hidden)) for side in (query, key))
            weights = _softmax(np.where(visible, query @ key.T, -np.inf))
            hidden = hidden + weights @ value
            hidden = hidden + np.tanh(hidden @ self.mlp[layer])
        return hidden[-1] @ self.head

    def continue_run(self, past: Array, run: TokenRun) -> tuple[Array, Array]:
        """Last hidden state [hidden] and own KV [layers, 2, tokens, hidden] of a run after `past`."""
        start, hidden, own = past.shape[2], self.embed(run), []
        for layer in range(LAYERS):
            query, key, value = (hidden @ self.qkv[layer, part] for part in range(3))
            query, key = (side + _positions(start, len(hidden)) for side in (query, key))
            own.append(np.stack([key, value]))
            keys, values = np.concatenate([past[layer], own[-1]], axis=1)
            rows = []
            for offset, one in enumerate(query):
                seen = start + offset + 1
                rows.append(_softmax(keys[:seen] @ one) @ values[:seen])
            hidden = hidden + np.stack(rows)
            hidden = hidden + np.tanh(hidden @ self.mlp[layer])
        return hidden[-1], np.stack(own)


@dataclass(eq=False)
class ReferenceBackend:
    """`PrefixBackend` over the model. Records every pass and keeps to the contract's letter."""

    model: ReferenceModel = field(default_factory=ReferenceModel)
    before_pass: Callable[[str, PrefixBatch], None] = lambda kind, batch: None  # may block or raise
    passes: list[tuple[str, PrefixBatch]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    closed: bool = False
    side_by_side: bool = False  # passes read KV that is split meanwhile, as on a CPU
    table: None = None
    recordings: None = None

    def prefill(self, batch: PrefixBatch) -> tuple[PrefixKV, ...]:
        self._enter("prefill", batch)
        assert list(batch.run_prefix) == list(range(len(batch.runs))), "one run per prefix"
        return tuple(ReferenceKV(kv) for _, kv in self._continue_all(batch))

    def start(self, batch: PrefixBatch) -> Started[np.float32]:
        logits = self.score(batch)
        return Started(lambda: logits, done=True)

    def score(self, batch: PrefixBatch) -> NDArray[np.float32]:
        self._enter("score", batch)
        hidden = np.stack([last for last, _ in self._continue_all(batch)])
        return (hidden @ self.model.head).astype(np.float32)

    def split(self, kv: PrefixKV, length: int) -> tuple[PrefixKV, PrefixKV]:
        self.threads.add(threading.get_ident())
        values = _alive(kv)
        assert 0 < length < kv.length
        kv.alive = False  # type: ignore[attr-defined]
        return ReferenceKV(values[:, :, :length].copy()), ReferenceKV(values[:, :, length:].copy())

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        assert not self.closed
        self.closed = True

    def tokens(self, kind: str) -> list[int]:
        """Run tokens of each pass of a kind. [passes]"""
        return [len(batch.runs.ids) for done, batch in self.passes if done == kind]

    def _enter(self, kind: str, batch: PrefixBatch) -> None:
        assert not self.closed
        self.threads.add(threading.get_ident())
        self.before_pass(kind, batch)
        self.passes.append((kind, batch))
        assert len(batch.runs)
        assert batch.runs.lengths.min() > 0
        assert len(batch.run_prefix) == len(batch.runs)
        assert (np.diff(batch.run_prefix) >= 0).all(), "runs are grouped by prefix"
        assert set(batch.run_prefix) == set(range(len(batch.prefixes))), "no prefix without a run"

    def _continue_all(self, batch: PrefixBatch) -> list[tuple[Array, Array]]:
        pasts = [self._past(pieces) for pieces in batch.prefixes]
        return [
            self.model.continue_run(pasts[row], run)
            for row, run in zip(batch.run_prefix, batch.runs, strict=True)
        ]

    def _past(self, pieces: Sequence[PrefixKV]) -> Array:
        return np.concatenate([np.empty((LAYERS, 2, 0, HIDDEN)), *map(self._values, pieces)], axis=2)

    def _values(self, kv: PrefixKV) -> Array:
        return kv.values if self.side_by_side and isinstance(kv, ReferenceKV) else _alive(kv)


@dataclass(eq=False)
class ReferenceEncodingBackend:
    """`TextBackend`: the last two hidden states of a text after the model, in float16."""

    model: ReferenceModel = field(default_factory=ReferenceModel)
    before_pass: Callable[[TokenRuns], None] = lambda texts: None
    passes: list[list[int]] = field(default_factory=list)  # lengths of the texts
    closed: bool = False

    def compute(self, texts: TokenRuns) -> NDArray[np.floating]:
        self.before_pass(texts)
        self.passes.append(texts.lengths.tolist())
        return np.stack([self.tokens(text.ids) for text in texts])

    def start(self, texts: TokenRuns) -> Started[np.floating]:
        tokens = self.compute(texts)
        return Started(lambda: tokens, done=True)

    def tokens(self, run: NDArray[np.int64]) -> NDArray[np.floating]:
        """Embedding tokens of one text. [2, hidden]"""
        last, kv = self.model.continue_run(np.empty((LAYERS, 2, 0, HIDDEN)), TokenRun(run))
        return np.stack([last, kv[-1, 1, -1]]).astype(np.float16)

    def close(self) -> None:
        assert not self.closed
        self.closed = True


def token_run(*ids: int) -> TokenRun:
    return TokenRun(np.array(ids, np.int64))


def submit(
    engine: Engine, prefix: TokenRun, items: Sequence[TokenRun], *args: Any, **options: Any
) -> "Future[Scored]":
    """A request of runs that are apart from each other."""
    return engine.submit(prefix, TokenRuns.of(items), *args, **options)


def _positions(start: int, count: int) -> Array:
    angles = np.arange(start, start + count)[:, None] / 3.0 ** np.arange(HIDDEN)
    return np.sin(angles)


def _softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _alive(kv: PrefixKV) -> Array:
    assert isinstance(kv, ReferenceKV)
    assert kv.alive, "a KV handle was used after its split"
    return kv.values
