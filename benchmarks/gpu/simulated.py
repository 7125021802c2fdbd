"""A GPU that computes nothing but costs the host what a real one does, for measuring the host alone.

Every call of CUDA is a call of the C library that lets go of the interpreter's lock and takes about as long. Graphs are
ONNX Runtime's own, with the inputs and outputs of the bundle's and no work in them: binding some sixty tensors a pass,
and its run, are the real thing. Enqueuing kernels keeps the calling thread busy without the lock; the device itself is
a clock, which `mark` waits for.
"""

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmarks.gpu.workload.stored import resident_bytes
from rankport.runtime.backends.devices.graph import DeviceArray
from rankport.runtime.backends.devices.memory import Buffer, Side, Transfers
from rankport.runtime.backends.devices.resident.table import DeviceTable, embeddings_dtype
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend, ScoringGraphs
from rankport.runtime.backends.ort.bound_graph import BoundGraph
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import GraphSpec, TensorSpec
from rankport.runtime.config import CUDA_DEFAULTS
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.store.contract import TokenNamespace
from rankport.runtime.store.device_catalogue import OwnedTable, ResidentTokens
from rankport.runtime.store.keyed_items import KeyedItems

SECONDS_A_TOKEN = 0.3e-6
"""Time of the device: below what the product shapes take on an H200, so that it is never the limit."""
CALL_S = 3e-6
"""Time of one call of the CUDA runtime, such as a copy that is enqueued."""
ENQUEUE_S, REPLAY_S = 1e-3, 1e-4
"""Time to start the kernels of a pass, each by itself or as one recording."""

_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}


class Host:
    """The host's side of the device's calls: busy, without the interpreter's lock."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._scratch = ctypes.create_string_buffer(1 << 20)
        self._bytes_a_s = 1e9
        self._bytes_a_s *= 1e-2 / min(self._timed(1e-2) for _ in range(3))

    def busy(self, seconds: float) -> None:
        """Takes so long on the calling thread."""
        left = int(seconds * self._bytes_a_s)
        while left > 0:
            self._libc.memset(self._scratch, 0, min(left, len(self._scratch)))
            left -= len(self._scratch)

    def sleep(self, seconds: float) -> None:
        """Waits for so long."""
        self._libc.usleep(int(seconds * 1e6))

    def _timed(self, seconds: float) -> float:
        begun = time.perf_counter()
        self.busy(seconds)
        return time.perf_counter() - begun


class SimulatedMemory:
    """`DeviceMemory` in the host's; knows when the device would be done."""

    def __init__(self) -> None:
        self.stream = 0
        self.transfers = Transfers()
        self.host = Host()
        self._alive: dict[int, NDArray[np.uint8]] = {}
        self._done_s = 0.0

    def enqueue(self, seconds: float) -> None:
        """The device has so much more to do."""
        self._done_s = max(self._done_s, time.perf_counter()) + seconds

    @property
    def done_s(self) -> float:
        """Moment when the device would be done with what it has by now."""
        return max(self._done_s, time.perf_counter())

    def allocate(self, nbytes: int) -> Buffer:
        self.host.busy(CALL_S)
        array = np.empty(max(nbytes, 1), np.uint8)  # its pages are never touched
        self._alive[array.ctypes.data] = array
        return Buffer(array.ctypes.data, nbytes, self._free)

    def _free(self, pointer: int) -> None:
        self._alive.pop(pointer, None)

    def staging(self, nbytes: int) -> NDArray[np.uint8]:
        return np.zeros(nbytes, np.uint8)

    def upload(self, host: NDArray[np.uint8], pointer: int) -> None:
        self.host.busy(CALL_S)

    def download(self, pointer: int, host: NDArray[np.uint8]) -> None:
        self.host.busy(CALL_S)
        host[:] = 0

    def clear(self, pointer: int, nbytes: int) -> None:
        self.host.busy(CALL_S)

    def copy(self, source: Side, target: Side, *, width: int, height: int, depth: int) -> None:
        self.host.busy(CALL_S)

    def mark(self) -> Callable[[], None]:
        self.host.busy(CALL_S)
        done_s = self._done_s
        return lambda: self.host.sleep(max(done_s - time.perf_counter(), 1e-6))

    def close(self) -> None:
        pass


class SimulatedGraph:
    """`DeviceGraph` over a graph of ONNX Runtime that has a bundle's inputs and outputs, and does nothing."""

    def __init__(self, spec: GraphSpec, memory: SimulatedMemory) -> None:
        session = onnxruntime.InferenceSession(stand_in(spec).SerializeToString(), _options())
        self._graph = BoundGraph(session, "cpu", records=False)
        self._memory = memory
        self.input_names, self.host_names = self._graph.input_names, self._graph.host_names

    def run(
        self,
        inputs: Mapping[str, DeviceArray],
        host: Mapping[str, NDArray[np.int64]],
        outputs: Mapping[str, DeviceArray],
        *,
        fixed: int | None = None,
    ) -> None:
        self._memory.host.busy(ENQUEUE_S if fixed is None else REPLAY_S)
        self._graph.run(inputs, host, {name: _emptied(name, outputs[name]) for name in outputs}, fixed=fixed)
        self._memory.enqueue(int(np.prod(inputs["input_ids"].shape)) * SECONDS_A_TOKEN)

    def close(self) -> None:
        self._graph.close()


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _emptied(name: str, array: DeviceArray) -> DeviceArray:
    """New KV without tokens: a CPU would write it."""
    if not name.startswith("new_"):
        return array
    prefixes, kv_heads, _, head_dim = array.shape
    return replace(array, shape=(prefixes, kv_heads, 0, head_dim))


def stand_in(spec: GraphSpec) -> onnx.ModelProto:
    """A graph of these inputs and outputs: logits of zeros, and KV of no tokens."""
    nodes = [
        helper.make_node("Shape", ["last_tokens"], ["items"]),
        helper.make_node("Concat", ["items", "labels"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["logits"]),
    ]
    if spec.role == "prefix":
        # The last layer attends to nothing, so that its past is no input: any layer's is as good.
        past = next(tensor.name for tensor in spec.inputs if tensor.name.startswith("past_key"))
        nodes = [
            helper.make_node("Slice", [past, "zero", "zero", "axis"], [output.name])
            for output in spec.outputs
        ]
    labels = spec.outputs[0].shape[-1]
    assert isinstance(labels, int)
    constants = {"labels": [labels], "zero": [0], "axis": [2]}
    graph = helper.make_graph(
        nodes,
        spec.role,
        [_value(tensor) for tensor in spec.inputs],
        [_value(tensor) for tensor in spec.outputs],
        [helper.make_tensor(name, TensorProto.INT64, [1], values) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", spec.opset)], ir_version=10)


def _value(tensor: TensorSpec) -> onnx.ValueInfoProto:
    # A name an axis: the bundle's own may not be what a stand-in gives.
    shape = [size if isinstance(size, int) else f"{tensor.name}_{size}" for size in tensor.shape]
    return helper.make_tensor_value_info(tensor.name, _TYPES[tensor.dtype], shape)


def simulated_engine(bundle: Bundle, memory: SimulatedMemory, table: DeviceTable | None = None) -> Engine:
    """The bundle's engine on that device."""
    graphs = ScoringGraphs(*(SimulatedGraph(bundle.graph(role), memory) for role in ("prefix", "score")))
    return Engine(DevicePrefixBackend(bundle.manifest, graphs, memory, table), CUDA_DEFAULTS)


@contextmanager
def simulated_ranker(
    bundle: Bundle, tokens: TokenNamespace | None = None, *, resident: bool = False
) -> Iterator[Ranker]:
    """The bundle's ranker on that device, with all `tokens` there if they are to be `resident`."""
    manifest, memory = bundle.manifest, SimulatedMemory()
    table = None
    if resident:
        rows = resident_bytes(manifest) // (4 * manifest.shape.hidden_size)
        sent_rows, dtype = 2 * CUDA_DEFAULTS.max_batch_tokens, embeddings_dtype(manifest)
        table = DeviceTable(memory, rows, sent_rows, manifest.shape.hidden_size, dtype)
    engine = simulated_engine(bundle, memory, table)
    with ExitStack() as opened:
        catalogue = None
        if tokens is not None and table is not None:
            owned = {0: OwnedTable(table, engine.call)}
            catalogue = ResidentTokens(tokens, owned, CUDA_DEFAULTS.device_tokens_refresh_s)
            opened.callback(catalogue.close)
        keyed = KeyedItems(manifest, tokens, catalogue, CUDA_DEFAULTS.host_tokens_bytes)
        prompt = PromptEncoder.from_bundle(bundle)
        yield opened.enter_context(Ranker(manifest, prompt, Replicas({0: engine}), keyed))
