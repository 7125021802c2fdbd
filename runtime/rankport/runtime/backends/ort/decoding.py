"""Decoding on the CPU: one session, whose graph gives logits and KV of the same tokens."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch, PrefixKV, PrefixPieces, SequenceKV
from rankport.runtime.backends.ort.host_kv import Array, HostKV, past_names
from rankport.runtime.backends.ort.prefixes import IN_PLACE, PrefixGraph, split_kv
from rankport.runtime.backends.ort.sequences import HostSequence, SequencePool
from rankport.runtime.backends.ort.session import BoundRun, Session
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRuns


class _InPlace:
    """Steps of a graph that writes KV where the pool has it."""

    def __init__(self, decode: Session, pool: SequencePool) -> None:
        self._decode, self._pool = decode, pool
        self._bound: tuple[tuple[int, int], BoundRun] | None = None  # to a place of the pool

    def step(self, sequences: Sequence[HostSequence], inputs: Mapping[str, Array]) -> NDArray[np.float32]:
        """Computes a token of each sequence, and puts its KV behind them."""
        past = self._pool.past(sequences)
        run = self._run(past, self._pool.place(sequences))
        logits = self._decode.run_bound(run, {**inputs, IN_PLACE: np.ones(1, np.int64)})
        self._pool.keep(sequences, past)
        return logits

    def _run(self, past: Mapping[str, Array], place: tuple[int, int] | None) -> BoundRun:
        if self._bound is not None and self._bound[0] == place:
            return self._bound[1]
        new = dict(zip(past_names(len(past) // 2, "new"), past.values(), strict=True))
        run = self._decode.bound(past, new)
        if place is not None:
            self._bound = place, run
        return run


class OnnxRuntimeDecodeBackend:
    """The `prefix` and `decode` roles of a bundle on the CPU. Implements `DecodeBackend`."""

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None) -> None:
        self._prefix = PrefixGraph(bundle, config or EngineConfig())
        self._decode = self._prefix.of_role("decode")
        self._pool = SequencePool(bundle.manifest.shape.layers)
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
        order = np.argsort([sequence.row for sequence in given])
        by_row = [given[place] for place in order]
        count = len(by_row)
        batch = PrefixBatch(
            tuple((sequence,) for sequence in by_row),
            TokenRuns.of_lengths(tokens[order], [1] * count),
            np.arange(count),
        )
        inputs, _ = self._prefix.inputs_but_past(batch)
        step = self._step if self._in_place is None else self._in_place.step
        by_row_logits = step(by_row, inputs)
        logits = np.empty_like(by_row_logits)
        logits[order] = by_row_logits
        return logits

    def _step(self, sequences: Sequence[HostSequence], inputs: dict[str, Array]) -> NDArray[np.float32]:
        """Computes a token's KV beside the past, then puts it there."""
        logits, *new = self._decode.run(inputs | self._pool.past(sequences))
        self._pool.append(sequences, new)
        return logits

    def logits(self, batch: PrefixBatch) -> NDArray[np.float32]:
        """See `DecodeBackend.logits`."""
        inputs, _ = self._prefix.inputs(batch)
        return self._decode.run(inputs)[0]

    def end(self, sequence: SequenceKV) -> None:
        """See `DecodeBackend.end`."""
        assert isinstance(sequence, HostSequence)
        self._pool.end(sequence)

    def split(self, kv: PrefixKV, length: int) -> tuple[HostKV, HostKV]:
        """See `DecodeBackend.split`."""
        return split_kv(kv, length)

    def close(self) -> None:
        """Frees the sessions."""
        self._in_place = None
        self._prefix.close()
        self._decode.close()
