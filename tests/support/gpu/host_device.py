"""A device that is this machine: host memory behind `DeviceMemory`, and ONNX Runtime's CPU behind `DeviceGraph`.

What a GPU backend does but for CUDA itself runs on it: packing, padding, KV layouts, copies, bindings.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rankport.runtime.backends.devices.decoding import DeviceDecodeBackend
from rankport.runtime.backends.devices.encoding import DeviceTextBackend, Takes
from rankport.runtime.backends.devices.graph import DeviceGraph
from rankport.runtime.backends.devices.marked import DeviceMarkedBackend
from rankport.runtime.backends.devices.memory import Buffer, Side, Transfers
from rankport.runtime.backends.devices.resident.table import DeviceTable
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend, ScoringGraphs
from rankport.runtime.backends.devices.sets import DeviceSetBackend, device_rows
from rankport.runtime.backends.ort.bound_graph import BoundGraph
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.set_ranker.tables import RowTables

_SENT_ROWS = 4096
_GARBAGE = 0xFF  # NaN as float32, float16 and bfloat16: fresh device memory holds anything


class HostMemory:
    """Implements `DeviceMemory`; everything is done at once. Counts what is alive."""

    def __init__(self) -> None:
        self.stream = 0
        self.transfers = Transfers()
        self.alive: dict[int, NDArray[np.uint8]] = {}

    def allocate(self, nbytes: int) -> Buffer:
        array = np.full(max(nbytes, 1), _GARBAGE, np.uint8)
        pointer = array.ctypes.data
        self.alive[pointer] = array
        return Buffer(pointer, nbytes, self._free)

    def _free(self, pointer: int) -> None:
        del self.alive[pointer]

    def staging(self, nbytes: int) -> NDArray[np.uint8]:
        return np.full(nbytes, _GARBAGE, np.uint8)

    def upload(self, host: NDArray[np.uint8], pointer: int) -> None:
        self.transfers.to_device += host.nbytes
        ctypes.memmove(pointer, host.ctypes.data, host.nbytes)

    def download(self, pointer: int, host: NDArray[np.uint8]) -> None:
        self.transfers.to_host += host.nbytes
        ctypes.memmove(host.ctypes.data, pointer, host.nbytes)

    def clear(self, pointer: int, nbytes: int) -> None:
        ctypes.memset(pointer, 0, nbytes)

    def copy(self, source: Side, target: Side, *, width: int, height: int, depth: int) -> None:
        self.transfers.on_device += width * height * depth
        for piece in range(depth):
            for row in range(height):
                ctypes.memmove(
                    target.pointer + (piece * target.rows + row) * target.pitch,
                    source.pointer + (piece * source.rows + row) * source.pitch,
                    width,
                )

    def mark(self) -> Callable[[], None]:
        return lambda: None

    def close(self) -> None:
        pass


class WatchedGraph:
    """A `DeviceGraph` that tells of each run by which number it is recorded, if it is."""

    def __init__(self, graph: DeviceGraph, on_run: Callable[[int | None], None]) -> None:
        self._graph, self._on_run = graph, on_run
        self.input_names, self.host_names = graph.input_names, graph.host_names
        self.close = graph.close

    def run(self, *arguments: Any, fixed: int | None = None) -> None:
        self._on_run(fixed)
        self._graph.run(*arguments, fixed=fixed)


def host_backend(
    bundle: Bundle,
    memory: HostMemory,
    resident_rows: int = 0,
    on_run: Callable[[int | None], None] = lambda fixed: None,
) -> DevicePrefixBackend:
    """The device backend over a fp32 bundle for CUDA, on this machine, with room for resident tokens if asked for."""
    table = None
    if resident_rows:
        table = DeviceTable(memory, resident_rows, _SENT_ROWS, bundle.manifest.shape.hidden_size)
    prefix = host_graph(bundle, "prefix")
    joint = len({graph.file for graph in bundle.manifest.graphs}) == 1
    score = WatchedGraph(prefix if joint else host_graph(bundle, "score"), on_run)
    return DevicePrefixBackend(
        bundle.manifest,
        ScoringGraphs(score if joint else prefix, score),
        memory,
        table,
    )


def host_encoder(
    bundle: Bundle, memory: HostMemory, takes: Takes = lambda sizes: True, role: str = "encode"
) -> DeviceTextBackend:
    """Makes the backend of a graph of texts, an item encoder's unless `role` says another, see above."""
    return DeviceTextBackend(bundle, role, host_graph(bundle, role), memory, takes)


def host_lists(
    bundle: Bundle, memory: HostMemory, on_run: Callable[[int | None], None] = lambda fixed: None
) -> DeviceMarkedBackend:
    """Makes the backend of a ranker of lists whose one target's graph is in fp32, on this machine."""
    return DeviceMarkedBackend(bundle, "list", WatchedGraph(host_graph(bundle, "list"), on_run), memory)


def host_sets(
    bundle: Bundle,
    memory: HostMemory,
    on_run: Callable[[int | None], None] = lambda fixed: None,
    rows_bytes: int = 0,
) -> DeviceSetBackend:
    """Makes the backend of a ranker of sets whose one target's graphs are in fp32, on this machine."""
    roles = [graph.role for graph in bundle.manifest.graphs]
    graphs = {role: WatchedGraph(host_graph(bundle, role), on_run) for role in roles}
    resident = device_rows(bundle.manifest, memory, RowTables.open(bundle), rows_bytes)
    return DeviceSetBackend(bundle.manifest, graphs, memory, resident)


def host_writer(
    bundle: Bundle, memory: HostMemory, on_run: Callable[[int | None], None] = lambda fixed: None
) -> DeviceDecodeBackend:
    """Makes the backend of a generator whose one target's graph is in fp32, on this machine."""
    return DeviceDecodeBackend(bundle.manifest, WatchedGraph(host_graph(bundle, "decode"), on_run), memory)


def host_graph(bundle: Bundle, role: str) -> BoundGraph:
    """One graph of a bundle, bound to host memory."""
    file = next(graph.file for graph in bundle.manifest.graphs if graph.role == role)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle.file(file), options, providers=["CPUExecutionProvider"])
    return BoundGraph(session, "cpu", records=False)
