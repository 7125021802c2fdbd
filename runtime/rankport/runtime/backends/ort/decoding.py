"""Decoding on the CPU: one session, whose graph gives logits and KV of the same tokens."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch, PrefixKV, PrefixPieces, SequenceKV
from rankport.runtime.backends.ort.host_kv import HostKV
from rankport.runtime.backends.ort.prefixes import PrefixGraph, split_kv
from rankport.runtime.backends.ort.sequences import HostSequence, SequencePool
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRuns


class OnnxRuntimeDecodeBackend:
    """The `prefix` and `decode` roles of a bundle on the CPU. Implements `DecodeBackend`."""

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None) -> None:
        self._prefix = PrefixGraph(bundle, config or EngineConfig())
        self._decode = self._prefix.of_role("decode")
        self._pool = SequencePool(bundle.manifest.shape.layers)

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
        by_row_logits, *new = self._decode.run(inputs | self._pool.past(by_row))
        self._pool.append(by_row, new)
        logits = np.empty_like(by_row_logits)
        logits[order] = by_row_logits
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
        self._prefix.close()
        self._decode.close()
