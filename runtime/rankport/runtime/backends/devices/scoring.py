"""A ranker on a device: packs and pads batches, keeps KV on the device, and runs two graphs on one stream.

Owns what crosses between host and device: the packed inputs of a pass in one copy, its logits back in another; KV
stays. What a graph is, ONNX Runtime's or TensorRT's, is behind `DeviceGraph`; allocation and copies are
`DeviceMemory`'s. A generator's prompts, and the items that it scores, are read as a ranker's.
"""

import logging
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import PrefixBatch, PrefixPieces, RecordingCounts, SplitKV, Started
from rankport.runtime.backends.devices.apart import each_by_itself
from rankport.runtime.backends.devices.graph import ITEM_BYTES, DeviceArray, DeviceGraph
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.recordings import Recordings
from rankport.runtime.backends.devices.resident.kv import DeviceKV, KVLayout, KVPieces, NamedKV, Place
from rankport.runtime.backends.devices.resident.table import DeviceTable, embeddings_dtype
from rankport.runtime.backends.devices.transfers.downloads import Downloads
from rankport.runtime.backends.devices.transfers.regions import Region
from rankport.runtime.backends.devices.transfers.uploads import Uploads
from rankport.runtime.backends.layouts.by_target import layout_of
from rankport.runtime.backends.layouts.kept import KeptState, KeptTensor
from rankport.runtime.backends.layouts.layout import Cast, EmbeddingsForm, HostArray, cast_by_numpy
from rankport.runtime.backends.layouts.rectangle import ASKED
from rankport.runtime.backends.layouts.sizes import PassSizes, lines, rounded
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRuns

log = logging.getLogger(__name__)

Logits = NDArray[np.float32]
_TOLD_STEP = 64
_PASSES_SHARE = 8


@dataclass(frozen=True, slots=True)
class ScoringGraphs:
    """The graphs of a ranker's two roles; one graph may be both, as that of a generator is `prefix` and `decode`."""

    prefix: DeviceGraph
    score: DeviceGraph


class DevicePrefixBackend:
    """Implements `PrefixBackend`. Owns and closes the graphs and the memory."""

    def __init__(
        self,
        manifest: Manifest,
        graphs: ScoringGraphs,
        memory: DeviceMemory,
        table: DeviceTable | None = None,
        *,
        recordings: Recordings | None = None,
        cast: Cast = cast_by_numpy,
    ) -> None:
        """Loads nothing. Runs may name rows of `table`, if there is one; `cast` is of embeddings to the graphs' type.

        `recordings` number the passes of the graphs, where others run them too.
        """
        self.table = table
        self.record_ahead: Callable[[DevicePrefixBackend], None] | None = None
        """Records passes that will come, once, in the thread that drives the backend; None: nothing."""
        self._graphs = graphs
        self._memory = memory
        # A generator has a logit for each token.
        self._labels = manifest.shape.vocab_size if manifest.labels is None else len(manifest.labels.names)
        prefix = next(graph for graph in manifest.graphs if graph.role == "prefix")
        dtype, first_row = np.dtype(embeddings_dtype(manifest)), 0 if table is None else table.rows
        form = EmbeddingsForm(manifest.shape.hidden_size, dtype, first_row, cast)
        score = next(graph for graph in manifest.graphs if graph.role in ("score", "decode"))
        self._lay_out = layout_of(score, form)
        self._kv = KVLayout(KeptTensor.of(prefix), KeptState.of(prefix))
        self._pieces = KVPieces(self._kv, memory)
        kept = self._kv.tensors
        names, past_names = [tensor.new for tensor in kept], [tensor.past for tensor in kept]
        self._new_kv_of = NamedKV(self._kv, names, frozenset(names))
        self._past_kv_of = {
            role: NamedKV(self._kv, past_names, graph.input_names)
            for role, graph in (("prefix", graphs.prefix), ("score", graphs.score))
        }
        self._uploads, self._downloads = Uploads(memory), Downloads(memory, np.dtype(np.float32))
        # Apart, so that one that grows does not move what passes of the other role were recorded over.
        self._past = {"prefix": Region(memory), "score": Region(memory)}
        self._new = Region(memory)
        self._recordings = Recordings() if recordings is None else recordings

    @property
    def recordings(self) -> RecordingCounts:
        """See `PrefixBackend.recordings`."""
        return self._recordings.counts

    def hold(self, prefixes: int, tokens: int, most_bytes: int) -> None:
        """Makes room for score passes of so many prefixes of so many tokens, within so many bytes.

        Where the room grows later, passes are recorded anew.
        """
        self._past["score"].hold(min(self._kv.nbytes(rounded(prefixes), lines(tokens)), most_bytes))

    def record_prefills(self, sizes: Sequence[tuple[int, int]], most_state_bytes: int | None = None) -> None:
        """Records prefill passes of (prefixes, tokens of each), as far as the device can.

        Only those whose prefixes end in states of `most_state_bytes` at most, however short they are: what a pass holds
        stays there.
        """
        if most_state_bytes is not None and (each := self._kv.state_bytes):
            sizes = [size for size in sizes if size[0] * each <= most_state_bytes]
        if not sizes:
            return
        try:
            # Those that take most room come first: what is recorded must stay where it is.
            room = (math.prod, operator.itemgetter(0), operator.itemgetter(1))
            for size in {max(sizes, key=of) for of in room}:
                self._prefill_zeros(*size)
            with self._recordings.at_once():
                for size in sizes:
                    self._prefill_zeros(*size)
        except BackendError as error:
            log.warning("prefill passes are not recorded beforehand, which takes longer: %s", str(error))
        self._memory.mark()()
        counts = self.recordings
        log.info("recorded %d passes in %.1f s", counts.recorded, counts.recording_s)

    def prefill(self, batch: PrefixBatch) -> tuple[DeviceKV, ...]:
        """See `PrefixBackend.prefill`."""
        assert len(batch.runs) == len(batch.prefixes)
        sizes = self._run("prefix", batch)
        block = Place(self._new.pointer, sizes.prefixes, sizes.rows * sizes.row_tokens)
        lengths = batch.runs.lengths.tolist()
        return tuple(
            self._pieces.taken(replace(block, row=row), length) for row, length in enumerate(lengths)
        )

    def score(self, batch: PrefixBatch) -> Logits:
        """See `PrefixBackend.score`."""
        return self.start(batch).results()

    def start(self, batch: PrefixBatch) -> Started[np.float32]:
        """See `PrefixBackend.start`."""
        self._run("score", batch)
        started = self._downloads.fetch((len(batch.read_tokens), self._labels))
        return Started(partial(self._each_by_itself, batch, started.results), done=False)

    def told(self, batch: PrefixBatch, places: NDArray[np.int64]) -> tuple[Logits, Logits]:
        """Computes single logits, of a graph that tells them, at places [asked] in all rows, at least one.

        Gives them [asked], and of each result the log of the sum of exp of all its logits [results].
        """
        asked, results = len(places), len(batch.read_tokens)
        room = _told_room(asked)
        self._run("score", batch, HostArray.padded((room,), places))
        values = self._downloads.fetch((room + results,)).results()
        return values[:asked], values[room:]

    def shares_rows(self, batch: PrefixBatch) -> bool:
        """Says whether runs of a batch lie beside each other in a row."""
        return bool(self._lay_out(batch).sizes.rows < np.bincount(batch.run_prefix).max())

    @property
    def split(self) -> SplitKV | None:
        """See `PrefixBackend.split`."""
        return self._pieces.split if self._kv.splits else None

    def close(self) -> None:
        """Frees the graphs, the workspace and the stream."""
        with ExitStack() as freed:  # after an error of the device too: the last step first
            freed.callback(self._memory.close)
            if self.table is not None:
                freed.callback(self.table.release)
            for held in (self._uploads, self._new, self._downloads):
                freed.callback(held.release)
            for past in self._past.values():
                freed.callback(past.release)
            for graph in {id(graph): graph for graph in (self._graphs.prefix, self._graphs.score)}.values():
                freed.callback(graph.close)
            self._memory.mark()()

    def _each_by_itself(self, batch: PrefixBatch, results: Callable[[], Logits]) -> Logits:
        """Gives the logits of a pass. Where some are no numbers, those of all in their rows are: each gets another."""
        logits = results()
        runs = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if batch.every_token or not len(runs) or not self.shares_rows(batch):
            return logits

        def compute(part: NDArray[np.int64]) -> NDArray[np.bool_]:
            logits[part] = self.score(batch.take(part))
            succeeded: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(logits[part]), axis=1)
            return succeeded

        each_by_itself(batch, runs, compute)
        return logits

    def _prefill_zeros(self, prefixes: int, tokens: int) -> None:
        runs = TokenRuns.of_lengths(np.zeros(prefixes * tokens, np.int64), [tokens] * prefixes)
        self._run("prefix", PrefixBatch(((),) * prefixes, runs, np.arange(prefixes)))

    def _run(self, role: str, batch: PrefixBatch, asked: HostArray | None = None) -> PassSizes:
        """Enqueues one pass; its results lie in the workspace, until the next pass of the role.

        They are KV, else the logits, or what is told of them where something is `asked`.
        """
        graph = self._graphs.prefix if role == "prefix" else self._graphs.score
        layout = self._lay_out(batch)
        sizes = layout.rounded_sizes(prefill=role == "prefix")
        past = self._past[role]
        arrays = layout.inputs(sizes)
        inputs = self._sent(graph, arrays if asked is None else {**arrays, ASKED: asked})
        self._gather(past, batch.prefixes, layout.past_lengths, sizes)
        inputs |= self._past_kv_of[role].at(past.pointer, sizes.prefixes, sizes.past)
        new_slots = sizes.rows * sizes.row_tokens if role == "prefix" else 0
        if new_slots:
            outputs = self._new_kv(sizes, new_slots)
        else:
            outputs = self._logits(sizes) if asked is None else self._told(sizes, asked)
        host = {"kv_slots": np.array([new_slots])}
        written = next(iter(outputs.values())).pointer
        addresses = (self._uploads.pointer, past.pointer, written)
        # With a table the graph reads all of it, however many rows were sent.
        shape = sizes if self.table is None else replace(sizes, embedding_count=0)
        fixed = self._recordings.number(role, (shape, None if asked is None else asked.shape), addresses)
        with self._recordings.counted(fixed):
            graph.run(inputs, {name: host[name] for name in graph.host_names}, outputs, fixed=fixed)
        return sizes

    def _sent(self, graph: DeviceGraph, arrays: Mapping[str, HostArray]) -> dict[str, DeviceArray]:
        """Sends the inputs that cross to the device, and adds the table that some of them are rows of."""
        inputs = self._uploads.send({name: arrays[name] for name in arrays if name in graph.input_names})
        if self.table is not None and "embeddings" in graph.input_names:
            inputs["embeddings"] = self.table.with_sent(inputs.get("embeddings"))
        return inputs

    def _new_kv(self, sizes: PassSizes, slots: int) -> Mapping[str, DeviceArray]:
        self._new.hold(self._kv.nbytes(sizes.prefixes, slots))
        return self._new_kv_of.at(self._new.pointer, sizes.prefixes, slots)

    def _logits(self, sizes: PassSizes) -> Mapping[str, DeviceArray]:
        pointer = self._downloads.hold(sizes.items_total * self._labels)
        return {"logits": DeviceArray(pointer, (sizes.items_total, self._labels), "float32")}

    def _told(self, sizes: PassSizes, asked: HostArray) -> Mapping[str, DeviceArray]:
        room = asked.shape[0]
        pointer = self._downloads.hold(room + sizes.items_total)
        sums = pointer + room * ITEM_BYTES["float32"]
        return {
            "asked_logits": DeviceArray(pointer, (room,), "float32"),
            "log_sums": DeviceArray(sums, (sizes.items_total, 1), "float32"),
        }

    def _gather(
        self, past: Region, prefixes: Sequence[PrefixPieces], lengths: NDArray[np.int64], sizes: PassSizes
    ) -> None:
        """Gathers the past of every prefix side by side. Padding is zeros: what has no weight must still be finite."""
        nbytes = self._kv.nbytes(sizes.prefixes, sizes.past)
        past.hold(nbytes)
        if len(prefixes) < sizes.prefixes or lengths.min() < sizes.past:
            self._memory.clear(past.pointer, nbytes)
        for row, pieces in enumerate(prefixes):
            self._pieces.put(pieces, Place(past.pointer, sizes.prefixes, sizes.past, row))


def passes_bytes(config: EngineConfig) -> int:
    """Counts the bytes of KV that a pass has room for from the start, beside those of the prefix cache."""
    return config.prefix_cache_bytes // _PASSES_SHARE


def reserved_bytes(config: EngineConfig) -> int:
    """Counts the bytes of KV that a ranker needs: of its prefix cache, of a pass, and of what that leaves in turn."""
    return config.prefix_cache_bytes + 2 * passes_bytes(config)


def _told_room(asked: int) -> int:
    """Rounds up to a number that comes again, and so that what lies behind these float32 is aligned."""
    return -(-rounded(asked) // _TOLD_STEP) * _TOLD_STEP
