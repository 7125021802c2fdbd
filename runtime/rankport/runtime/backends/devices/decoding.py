"""A generator on a device: sequences whose KV stays there grow by a token a pass; prompts and items as a ranker's.

Owns what crosses between host and device in a step: a token of each sequence and the mask of its past in one copy,
logits, or what is told of them, back in another. KV of prompts and passes over items are `DevicePrefixBackend`'s, KV of
sequences `DevicePool`'s.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch, PrefixPieces, RecordingCounts, SplitKV
from rankport.runtime.backends.devices.apart import each_by_itself
from rankport.runtime.backends.devices.graph import ITEM_BYTES, DeviceArray, DeviceGraph
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.recordings import Recordings
from rankport.runtime.backends.devices.resident.kv import DeviceKV, KVLayout, NamedKV, Place
from rankport.runtime.backends.devices.resident.sequences.pool import DevicePool, DeviceSequence
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend, ScoringGraphs
from rankport.runtime.backends.devices.transfers.downloads import Downloads
from rankport.runtime.backends.devices.transfers.regions import Region
from rankport.runtime.backends.devices.transfers.uploads import Uploads
from rankport.runtime.backends.layouts.kept import KeptState, KeptTensor
from rankport.runtime.backends.layouts.layout import HostArray
from rankport.runtime.backends.layouts.rectangle import step_rows
from rankport.runtime.backends.layouts.sizes import rounded
from rankport.runtime.backends.write_contract import Likeliest, SequenceKV
from rankport.runtime.bundle.manifest import Manifest

Logits = NDArray[np.float32]
_ALIGNED = 64


class DeviceDecodeBackend:
    """Implements `DecodeBackend`. Owns and closes the graph, which has both roles, and the memory.

    A step runs over all rows of the pool up to the last one that takes part, rounded up to a number that comes again;
    what it computes of the others is not kept. With states it runs over those of all sequences: of one that takes no
    part they become what they were.
    """

    finds_likeliest = True

    def __init__(self, manifest: Manifest, graph: DeviceGraph, memory: DeviceMemory) -> None:
        """Loads nothing."""
        self._recordings = Recordings()
        graphs = ScoringGraphs(graph, graph)
        self._runs = DevicePrefixBackend(manifest, graphs, memory, recordings=self._recordings)
        self._graph, self._vocabulary = graph, manifest.shape.vocab_size
        prefix = next(spec for spec in manifest.graphs if spec.role == "prefix")
        kept = KeptTensor.of(prefix)
        self._layout, names = KVLayout(kept), [tensor.new for tensor in kept]
        self._new_of = NamedKV(self._layout, names, frozenset(names))
        longest = manifest.limits.max_prefix_tokens + manifest.limits.max_item_tokens
        self._pool = DevicePool(kept, KeptState.of(prefix), memory, longest)
        self._uploads, self._downloads = Uploads(memory), Downloads(memory, np.dtype(np.float32))
        self._rows = Downloads(memory, np.dtype(np.float32))
        self._new = Region(memory)
        decode = next(spec for spec in manifest.graphs if spec.role == "decode")
        _, *shape = next(output for output in decode.outputs if output.name == "likeliest").shape
        parts, of_part = (int(size) for size in shape)
        self._told = _Told(parts, of_part, self._vocabulary // parts)

    @property
    def recordings(self) -> RecordingCounts:
        """See `DecodeBackend.recordings`."""
        return self._recordings.counts

    def prefill(self, batch: PrefixBatch) -> tuple[DeviceKV, ...]:
        """See `DecodeBackend.prefill`."""
        return self._runs.prefill(batch)

    def begin(self, prefix: PrefixPieces) -> DeviceSequence:
        """See `DecodeBackend.begin`."""
        return self._pool.begin(prefix)

    def decode(self, sequences: Sequence[SequenceKV], tokens: NDArray[np.int64]) -> Logits:
        """See `DecodeBackend.decode`."""
        return self.decode_likeliest(sequences, tokens).rows(np.arange(len(sequences)))

    def decode_likeliest(self, sequences: Sequence[SequenceKV], tokens: NDArray[np.int64]) -> Likeliest:
        """See `DecodeBackend.decode_likeliest`. Logits leave the device where rows of them are asked for."""
        given = cast(Sequence[DeviceSequence], sequences)
        self._pool.make_room_behind(given)
        places = np.array([sequence.row for sequence in given], np.int64)
        lengths = np.array([sequence.length for sequence in given], np.int64)
        block = self._step(tokens, places, lengths)
        count, told = len(given), self._told
        answer = self._downloads.fetch((told.size(count),))
        self._pool.append(block, given)
        values = answer.results()
        self._pool.lengthen(given)
        return Likeliest(*told.read(values, count), self._rows_of)

    def logits(self, batch: PrefixBatch) -> Logits:
        """See `DecodeBackend.logits`."""
        return self._runs.score(batch)

    def log_probabilities(
        self, batch: PrefixBatch, rows: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """See `DecodeBackend.log_probabilities`. The logits stay on the device."""
        found = self._told_of(batch, rows, tokens)
        run_of = _runs_of(batch, rows)
        runs = np.unique(run_of[~np.isfinite(found)])
        if not len(runs) or not self._runs.shares_rows(batch):
            return found

        def compute(part: NDArray[np.int64]) -> NDArray[np.bool_]:
            asked, apart = np.flatnonzero(np.isin(run_of, part)), batch.take(part)
            place = np.searchsorted(part, run_of[asked])
            own = rows[asked] - _first_results(batch)[part][place] + _first_results(apart)[place]
            found[asked] = self._told_of(apart, own, tokens[asked])
            return np.isfinite(found[asked])

        each_by_itself(batch, runs, compute)
        return found

    def _told_of(
        self, batch: PrefixBatch, rows: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        logits, sums = self._runs.told(batch, rows * self._vocabulary + tokens)
        return logits.astype(np.float64) - sums[rows]

    def end(self, sequence: SequenceKV) -> None:
        """See `DecodeBackend.end`."""
        assert isinstance(sequence, DeviceSequence)
        self._pool.end(sequence)

    @property
    def split(self) -> SplitKV | None:
        """See `DecodeBackend.split`."""
        return self._runs.split

    def close(self) -> None:
        """Frees the graph, the workspace and the stream."""
        with ExitStack() as freed:  # after an error of the device too: the last step first
            freed.callback(self._runs.close)
            for held in (self._uploads, self._downloads, self._rows, self._new, self._pool):
                freed.callback(held.release)

    def _step(
        self, tokens: NDArray[np.int64], places: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> Place:
        """Enqueues a step of the rows at `places`; returns the block of its KV, a token for each row of the pool."""
        rows, read = self._pool.rows(int(places.max())), rounded(len(places))
        arrays = step_rows(tokens, places, lengths, (rows, self._pool.room))
        host = {name: HostArray.padded(array.shape, array) for name, array in arrays.items()}
        host["last_tokens"] = HostArray.padded((read,), arrays["last_tokens"])
        inputs = self._uploads.send(
            {name: array for name, array in host.items() if name in self._graph.input_names}
        )
        self._new.hold(self._layout.nbytes(rows, 1))
        block = Place(self._new.pointer, rows, 1)
        told = self._downloads.hold(self._told.size(read))
        logits = self._rows.hold(read * self._vocabulary)
        outputs = dict(self._new_of.at(block.pointer, rows, 1)) | self._told.arrays(told, read)
        outputs["logits"] = DeviceArray(logits, (read, self._vocabulary), "float32")
        outputs |= self._pool.new_states(rows)
        addresses = (self._uploads.pointer, *self._pool.places, block.pointer, told, logits)
        fixed = self._recordings.number(f"step {self._pool.turn}", (rows, read), addresses)
        inputs |= self._pool.past(rows)
        with self._recordings.counted(fixed):
            self._graph.run(inputs, {}, outputs, fixed=fixed)
        return block

    def _rows_of(self, places: NDArray[np.int64]) -> Logits:
        """Fetches the rows of the last step's logits up to the last that is asked for."""
        rows = self._rows.fetch((int(places.max()) + 1, self._vocabulary)).results()
        return rows if len(rows) == len(places) else rows[places]


def _first_results(batch: PrefixBatch) -> NDArray[np.int64]:
    """Gives the first result of each run. [runs]"""
    return batch.runs.offsets[:-1] if batch.every_token else np.arange(len(batch.runs))


def _runs_of(batch: PrefixBatch, results: NDArray[np.int64]) -> NDArray[np.int64]:
    """Finds the run that each of some results is of."""
    return np.searchsorted(_first_results(batch), results, side="right") - 1


@dataclass(frozen=True, slots=True)
class _Told:
    """Layout of what a step tells of its logits: tokens, as wide as two float32, logits and sums, in parts."""

    parts: int  # of a row of logits
    of_part: int  # likeliest tokens
    part_size: int

    @property
    def likeliest(self) -> int:
        """Tokens of each sequence."""
        return self.parts * self.of_part

    def size(self, count: int) -> int:
        """Counts the float32 of so many sequences."""
        return 3 * self._part(count) + count

    def arrays(self, pointer: int, count: int) -> dict[str, DeviceArray]:
        """Gives the outputs of a graph there."""
        logits, sums = (pointer + parts * self._part(count) * ITEM_BYTES["float32"] for parts in (2, 3))
        return {
            "likeliest": DeviceArray(pointer, (count, self.parts, self.of_part), "int64"),
            "likeliest_logits": DeviceArray(logits, (count, self.parts, self.of_part), "float32"),
            "log_sums": DeviceArray(sums, (count, 1), "float32"),
        }

    def read(
        self, values: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
        """Reads tokens and logits [count, likeliest], bounds and sums [count]."""
        part, used = self._part(count), count * self.likeliest
        shape = (count, self.parts, self.of_part)
        tokens = values[: 2 * part].view(np.int64)[:used].reshape(shape)
        tokens = tokens + np.arange(self.parts)[:, None] * self.part_size
        logits = values[2 * part : 2 * part + used].reshape(shape)
        all_there = self.of_part == self.part_size
        bounds = np.full(count, -np.inf, np.float32) if all_there else logits[:, :, -1].max(axis=1)
        sums = values[3 * part : 3 * part + count].astype(np.float64)
        return tokens.reshape(count, -1), logits.reshape(count, -1), bounds, sums

    def _part(self, count: int) -> int:
        """Counts the float32 of logits, those of padding and of alignment too."""
        return -(-rounded(count) * self.likeliest // _ALIGNED) * _ALIGNED
