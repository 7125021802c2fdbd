"""Comparison of two backends: the same tokens through both, and how far their answers are apart.

Judges nothing: limits are the caller's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBackend, PrefixBatch, TextBackend
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.tokens import TokenRun, TokenRuns

_PREFIX_TOKENS = 48
_LENGTHS = (1, 2, 17, 5, 40, 9, 3, 24)
_PASSES = 4
"""A shape's first pass is enqueued, a later one recorded, and the last replayed."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Distance of answers from right ones."""

    largest: float  # infinite where an answer is no number
    scale: float  # root mean square of the right ones

    @property
    def relative(self) -> float:
        """The largest in parts of the scale."""
        return self.largest / self.scale if self.scale else float(self.largest > 0)


def difference(answers: NDArray[np.floating], right: NDArray[np.floating]) -> Difference:
    """Measures how far `answers` are from `right`, both [rows, width]."""
    apart = np.abs(answers.astype(np.float64) - right)
    scale = float(np.sqrt(np.mean(np.square(right, dtype=np.float64))))
    return Difference(float(apart.max()) if np.isfinite(apart).all() else float("inf"), scale)


def answers_of(backend: PrefixBackend, prefix: TokenRun, items: TokenRuns) -> list[NDArray[np.float32]]:
    """Scores items behind a prefix, with it cached and without any, again and again. [passes][items, labels]"""
    owner = np.zeros(len(items), np.int64)
    pieces = backend.prefill(PrefixBatch.of([()], [prefix], np.zeros(1, np.int64)))
    return [backend.score(PrefixBatch((kv,), items, owner)) for kv in [pieces] * _PASSES + [()] * _PASSES]


def compare_prefix_backends(tried: PrefixBackend, reference: PrefixBackend, manifest: Manifest) -> Difference:
    """Compares logits of random tokens behind a random prefix, and without it."""
    ids = np.random.default_rng(5)
    limits = manifest.limits
    items = _runs(ids, limits.max_item_tokens, manifest)
    if not limits.max_prefix_tokens:
        batch = PrefixBatch(((),), items, np.zeros(len(items), np.int64))
        return _worst([tried.score(batch) for _ in range(_PASSES)], [reference.score(batch)] * _PASSES)
    prefix = TokenRun(
        ids.integers(0, manifest.shape.vocab_size, min(_PREFIX_TOKENS, limits.max_prefix_tokens))
    )
    return _worst(*(answers_of(backend, prefix, items) for backend in (tried, reference)))


def compare_text_backends(tried: TextBackend, reference: TextBackend, manifest: Manifest) -> Difference:
    """Compares the rows of random texts."""
    texts = _runs(np.random.default_rng(5), manifest.max_text_tokens, manifest)
    right = reference.compute(texts)
    return _worst([tried.compute(texts) for _ in range(_PASSES)], [right] * _PASSES)


def _runs(ids: np.random.Generator, longest: int, manifest: Manifest) -> TokenRuns:
    lengths = [min(length, longest) for length in _LENGTHS]
    return TokenRuns.of_lengths(ids.integers(0, manifest.shape.vocab_size, sum(lengths)), lengths)


def _worst(answers: list[NDArray[np.floating]], right: list[NDArray[np.floating]]) -> Difference:
    return difference(np.concatenate(answers), np.concatenate(right))
