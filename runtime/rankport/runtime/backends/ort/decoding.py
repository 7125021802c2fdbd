"""Decoding on the CPU: one session, whose graph gives logits and KV of the same tokens."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch, PrefixPieces
from rankport.runtime.backends.layouts.by_target import step_layout_of
from rankport.runtime.backends.layouts.packed import step_inputs
from rankport.runtime.backends.ort.host_kv import Array, HostKV
from rankport.runtime.backends.ort.prefixes import IN_PLACE, PrefixGraph, split_kv
from rankport.runtime.backends.ort.sequences import HostSequence, Place, SequencePool
from rankport.runtime.backends.ort.session import BoundRun, Session
from rankport.runtime.backends.write_contract import Likeliest, SequenceKV
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.softmax import log_sums

_ASKED = np.ones(1, np.int64)
Logits = NDArray[np.float32]
"""Logits [sequences, vocabulary]."""


class _InPlace:
    """Steps of a graph that writes KV where the pool has it."""

    def __init__(self, decode: Session, pool: SequencePool) -> None:
        self._decode, self._pool = decode, pool
        self._bound: dict[Place, BoundRun] = {}  # to places of the pool that are there

    def step(self, sequences: Sequence[HostSequence], inputs: Mapping[str, Array], logits: Logits) -> None:
        """Computes a token of each sequence, and puts its KV behind them."""
        inputs = {**inputs, IN_PLACE: _ASKED}
        place = self._pool.place(sequences)
        if place is None:
            past = self._pool.past(sequences)
            new = self._pool.new(sequences, past)
            self._decode.run_bound(self._decode.bound(past, new), inputs, logits)
            self._pool.take(sequences, new)
        else:
            self._decode.run_bound(self._bound_to(place, sequences), inputs, logits)
            self._pool.take(sequences)

    def _bound_to(self, place: Place, sequences: Sequence[HostSequence]) -> BoundRun:
        if place not in self._bound:
            rows = place.grown, place.rows
            self._bound = {known: run for known, run in self._bound.items() if known[:2] == rows}
            past = self._pool.past(sequences)
            self._bound[place] = self._decode.bound(past, self._pool.new(sequences, past))
        return self._bound[place]


class OnnxRuntimeDecodeBackend:
    """The `prefix` and `decode` roles of a bundle on the CPU. Implements `DecodeBackend`."""

    recordings = None
    finds_likeliest = False

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None) -> None:
        self._prefix = PrefixGraph(bundle, config or EngineConfig())
        self._decode = self._prefix.of_role("decode")
        shape = bundle.manifest.shape
        self._pool = SequencePool(shape.layers, states=self._prefix.states)
        self._vocabulary = shape.vocab_size
        self.split = None if self._prefix.states else split_kv
        self._lay_out = step_layout_of(bundle.graph("decode"))
        # Graphs of bundles of before, and of models whose attention does not fit, have no such input.
        fits = IN_PLACE in self._decode.input_names
        self._in_place = _InPlace(self._decode, self._pool) if fits else None

    def prefill(self, batch: PrefixBatch) -> tuple[HostKV, ...]:
        """See `DecodeBackend.prefill`."""
        return self._prefix.prefill(batch)

    def begin(self, prefix: PrefixPieces) -> HostSequence:
        """See `DecodeBackend.begin`."""
        return self._pool.begin(cast(tuple[HostKV, ...], prefix))

    def decode(self, sequences: Sequence[SequenceKV], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `DecodeBackend.decode`."""
        given = cast(Sequence[HostSequence], sequences)
        rows = [sequence.row for sequence in given]
        if all(row < following for row, following in pairwise(rows)):
            return self._step(given, tokens)
        order = np.argsort(rows)
        logits = np.empty((len(given), self._vocabulary), np.float32)
        logits[order] = self._step([given[place] for place in order], tokens[order])
        return logits

    def decode_likeliest(self, sequences: Sequence[SequenceKV], tokens: NDArray[np.int64]) -> Likeliest:
        """See `DecodeBackend.decode_likeliest`."""
        logits = self.decode(sequences, tokens)
        best = logits.argmax(axis=1)[:, None]
        largest = np.take_along_axis(logits, best, axis=1)
        bounds = np.partition(logits, -2, axis=1)[:, -2]
        return Likeliest(best, largest, bounds, log_sums(logits), lambda places: logits[places])

    def _step(self, sequences: Sequence[HostSequence], tokens: NDArray[np.int64]) -> Logits:
        """Computes a token of each sequence in the order of rows, and puts its KV behind them."""
        lengths = np.array([sequence.length for sequence in sequences], np.int64)
        if self._in_place is not None:
            logits = np.empty((len(sequences), self._vocabulary), np.float32)
            self._in_place.step(sequences, step_inputs(tokens, lengths), logits)
            return logits
        past = self._pool.past(sequences, cut=True)
        room = next(iter(past.values())).shape[2]
        logits, *rest = self._decode.run(past | self._lay_out(tokens, lengths, room))
        self._pool.append(sequences, rest[: len(past)])  # what graphs for a GPU tell of logits is behind it
        return logits

    def logits(self, batch: PrefixBatch) -> NDArray[np.float32]:
        """See `DecodeBackend.logits`."""
        inputs, _ = self._prefix.inputs(batch)
        return self._decode.run(inputs)[0]

    def log_probabilities(
        self, batch: PrefixBatch, rows: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """See `DecodeBackend.log_probabilities`."""
        logits = self.logits(batch)
        sums = log_sums(logits)
        result: NDArray[np.float64] = logits[rows, tokens] - sums[rows]
        return result

    def end(self, sequence: SequenceKV) -> None:
        """See `DecodeBackend.end`."""
        assert isinstance(sequence, HostSequence)
        self._pool.end(sequence)

    def close(self) -> None:
        """Frees the sessions."""
        self._in_place = None
        self._prefix.close()
        self._decode.close()
