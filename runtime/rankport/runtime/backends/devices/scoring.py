"""A ranker on a device: packs and pads batches, keeps KV on the device, and runs two graphs on one stream.

Owns what crosses between host and device: the packed inputs of a pass in one copy, its logits back in another; KV
stays. What a graph is, ONNX Runtime's or TensorRT's, is behind `DeviceGraph`; allocation and copies are
`DeviceMemory`'s.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import Launched, PrefixKV, RaggedBatch
from rankport.runtime.backends.devices.downloads import Answers
from rankport.runtime.backends.devices.graph import DeviceArray, DeviceGraph
from rankport.runtime.backends.devices.kv import DeviceKV, KVLayout, Place
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.passes import DevicePass, layout_of
from rankport.runtime.backends.devices.table import DeviceTable
from rankport.runtime.backends.devices.uploads import Uploads
from rankport.runtime.backends.devices.workspace import Recordings, Region
from rankport.runtime.bundle.manifest import Manifest

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ScoringGraphs:
    """The graphs of a ranker's two roles; one graph may be both."""

    prefix: DeviceGraph
    score: DeviceGraph


class DeviceScoringBackend:
    """Implements `ScoringBackend`. Owns and closes the graphs and the memory."""

    def __init__(
        self,
        manifest: Manifest,
        graphs: ScoringGraphs,
        memory: DeviceMemory,
        table: DeviceTable | None = None,
    ) -> None:
        """Runs may name rows of `table`, if there is one."""
        assert manifest.labels is not None
        self.table = table
        self._graphs = graphs
        self._memory = memory
        self._labels = len(manifest.labels.names)
        prefix = next(graph for graph in manifest.graphs if graph.role == "prefix")
        self._lay_out = layout_of(
            prefix.target, manifest.shape.hidden_size, 0 if table is None else table.rows
        )
        self._kv = KVLayout(manifest.shape.layers, prefix.outputs[0].dtype)
        self._kv_names = [output.name for output in prefix.outputs]
        self._past_names = [name.replace("new_", "past_", 1) for name in self._kv_names]
        self._uploads, self._answers = Uploads(memory), Answers(memory, np.dtype(np.float32))
        self._past, self._new = Region(memory), Region(memory)
        self._recordings = Recordings()

    def prefill(self, batch: RaggedBatch) -> tuple[DeviceKV, ...]:
        """See `ScoringBackend.prefill`."""
        assert len(batch.runs) == len(batch.prefixes)
        one = self._run("prefix", batch)
        block = Place(self._new.pointer, one.prefixes, one.slots)
        return tuple(self._taken(block, row, len(run.ids)) for row, run in enumerate(batch.runs))

    def score(self, batch: RaggedBatch) -> Logits:
        """See `ScoringBackend.score`."""
        return self.launch(batch).results()

    def launch(self, batch: RaggedBatch) -> Launched[np.float32]:
        """See `ScoringBackend.launch`."""
        self._run("score", batch)
        return self._answers.fetch((len(batch.runs), self._labels))

    def split(self, kv: PrefixKV, length: int) -> tuple[DeviceKV, DeviceKV]:
        """See `ScoringBackend.split`. Both halves own their memory, so that evicting one frees it."""
        assert isinstance(kv, DeviceKV)
        head, rest = self._empty(length), self._empty(kv.length - length)
        self._kv.move(self._memory, Place.of(kv), Place.of(head), length)
        self._kv.move(self._memory, Place.of(kv, start=length), Place.of(rest), rest.length)
        return head, rest

    def close(self) -> None:
        """Frees the graphs, the workspace and the stream."""
        with ExitStack() as freed:  # after an error of the device too: the last step first
            freed.callback(self._memory.close)
            if self.table is not None:
                freed.callback(self.table.release)
            for region in (self._uploads, self._past, self._new, self._answers):
                freed.callback(region.release)
            for graph in {id(graph): graph for graph in (self._graphs.prefix, self._graphs.score)}.values():
                freed.callback(graph.close)
            self._memory.mark()()

    def _run(self, role: str, batch: RaggedBatch) -> DevicePass:
        """Enqueues one pass; its results lie in the workspace, until the next pass of the role."""
        graph = self._graphs.prefix if role == "prefix" else self._graphs.score
        one = self._lay_out(batch)
        inputs = self._uploads.send(
            {name: one.arrays[name] for name in one.arrays if name in graph.input_names}
        )
        if self.table is not None and "embeddings" in graph.input_names:
            inputs["embeddings"] = self.table.with_sent(inputs.get("embeddings"))
        past = self._gathered(batch.prefixes, one)
        inputs |= {name: past[name] for name in past if name in graph.input_names}
        if role == "prefix":
            self._new.hold(self._kv.nbytes(one.prefixes, one.slots))
            written = self._new.pointer
            arrays = self._kv.arrays(written, one.prefixes, one.slots)
            outputs = dict(zip(self._kv_names, arrays, strict=True))
        else:
            written = self._answers.hold(one.items_total * self._labels)
            outputs = {"logits": DeviceArray(written, (one.items_total, self._labels), "float32")}
        host = {"kv_slots": np.array([one.slots if role == "prefix" else 0])}
        wanted = {name: host[name] for name in graph.host_names}
        addresses = (self._uploads.pointer, self._past.pointer, written)
        fixed = self._recordings.number(role, one.key, addresses)
        graph.run(inputs, wanted, outputs, fixed=fixed)
        return one

    def _gathered(self, prefixes: Sequence[tuple[PrefixKV, ...]], one: DevicePass) -> dict[str, DeviceArray]:
        """The past of every prefix side by side. Padding is zeros: what has no weight must still be finite."""
        nbytes = self._kv.nbytes(one.prefixes, one.past)
        self._past.hold(nbytes)
        lengths = [sum(piece.length for piece in pieces) for pieces in prefixes]
        if len(prefixes) < one.prefixes or min(lengths) < one.past:
            self._memory.clear(self._past.pointer, nbytes)
        for row, pieces in enumerate(prefixes):
            start = 0
            for piece in cast(tuple[DeviceKV, ...], pieces):
                target = Place(self._past.pointer, one.prefixes, one.past, row, start)
                self._kv.move(self._memory, Place.of(piece), target, piece.length)
                start += piece.length
        arrays = self._kv.arrays(self._past.pointer, one.prefixes, one.past)
        return dict(zip(self._past_names, arrays, strict=True))

    def _taken(self, block: Place, row: int, length: int) -> DeviceKV:
        kv = self._empty(length)
        source = Place(block.pointer, block.prefixes, block.length, row)
        self._kv.move(self._memory, source, Place.of(kv), length)
        return kv

    def _empty(self, length: int) -> DeviceKV:
        return DeviceKV(self._memory.allocate(self._kv.nbytes(1, length)), length)
