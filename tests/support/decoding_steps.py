"""Texts that a decoding backend writes on, a token a step, and the logits that each gets."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.write_contract import DecodeBackend, SequenceKV
from rankport.runtime.tokens import TokenRun

PROMPT, STEPS = 6, 90  # rows grow once on the way
TEXTS = np.random.default_rng(3).integers(3, 60, (5, PROMPT + STEPS))


def one_run(tokens: NDArray[np.int64]) -> PrefixBatch:
    """Makes the pass of one run behind nothing."""
    return PrefixBatch.of([()], [TokenRun(tokens)], np.zeros(1, np.int64))


def begun(backend: DecodeBackend, text: NDArray[np.int64]) -> SequenceKV:
    """Begins a text behind its prompt."""
    return backend.begin(backend.prefill(one_run(text[:PROMPT])))


def stepped(
    backend: DecodeBackend, texts: NDArray[np.int64], parts: Sequence[Sequence[int]]
) -> dict[int, list[NDArray[np.float32]]]:
    """Decodes texts, a pass for each of some that take part; gives the logits that each text got."""
    sequences = [begun(backend, text) for text in texts]
    logits: dict[int, list[NDArray[np.float32]]] = {place: [] for place in range(len(texts))}
    for part in parts:
        tokens = np.array([texts[place, PROMPT + len(logits[place])] for place in part])
        rows = backend.decode([sequences[place] for place in part], tokens)
        for place, row in zip(part, rows, strict=True):
            logits[place].append(row)
    for sequence in sequences:
        backend.end(sequence)
    return logits
