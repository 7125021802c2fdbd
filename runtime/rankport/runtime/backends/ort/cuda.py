"""ONNX Runtime on an NVIDIA GPU: a bundle's graphs as `DeviceGraph`s of one stream, bound to device memory."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache, partial

import numpy as np
import onnxruntime

from rankport.protos.errors import BackendError, BundleError
from rankport.protos.installed.extras import CUDA_INSTALL
from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.devices.cuda.capability import require_fp8
from rankport.runtime.backends.devices.cuda.gpus import list_gpus
from rankport.runtime.backends.devices.cuda.memory import CudaMemory
from rankport.runtime.backends.devices.decoding import DeviceDecodeBackend
from rankport.runtime.backends.devices.encoding import DeviceTextBackend
from rankport.runtime.backends.devices.marked import DeviceMarkedBackend
from rankport.runtime.backends.devices.resident.table import token_table
from rankport.runtime.backends.devices.scoring import (
    DevicePrefixBackend,
    ScoringGraphs,
    passes_bytes,
    reserved_bytes,
)
from rankport.runtime.backends.devices.sets import DeviceSetBackend, device_rows
from rankport.runtime.backends.layouts.sizes import prefill_sizes
from rankport.runtime.backends.ort.bound_graph import UNDISTURBED, BoundGraph
from rankport.runtime.backends.ort.cuda_errors import lacks_memory, reason_of
from rankport.runtime.backends.ort.half_floats import HalfFloatCast
from rankport.runtime.backends.ort.session import threads_of_a_pass
from rankport.runtime.backends.set_contract import StoredRows
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.graph_files import check_graph_files
from rankport.runtime.bundle.manifest import Manifest, Role
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import EMBEDDED, TokenRun, TokenRuns

log = logging.getLogger(__name__)

PROVIDER = "CUDAExecutionProvider"


def cuda_prefix_backend(bundle: Bundle, config: EngineConfig, *, device: int = 0) -> DevicePrefixBackend:
    """Loads the ranker on one GPU.

    Raises BackendError if ONNX Runtime or the machine has no CUDA, BundleError if a graph cannot be loaded.
    """
    bundle = bundle.for_onnxruntime(onnxruntime.__version__)
    with _on_gpu(device) as memory:
        memory.reserve(reserved_bytes(config))
        prefix = _load(bundle, "prefix", memory, config)
        one = bundle.graph("score").file == bundle.graph("prefix").file
        score = prefix if one else _load(bundle, "score", memory, config)
        table = token_table(bundle.manifest, config, memory)
        graphs = ScoringGraphs(prefix, score)
        backend = DevicePrefixBackend(bundle.manifest, graphs, memory, table, cast=HalfFloatCast())
        backend.hold(
            config.max_active_requests, bundle.manifest.limits.max_prefix_tokens, passes_bytes(config)
        )
        backend.record_ahead = partial(_record_prefills, manifest=bundle.manifest, config=config)
        return backend


def _record_prefills(backend: DevicePrefixBackend, manifest: Manifest, config: EngineConfig) -> None:
    """Records the prefill passes of short prefixes that will come, of a ranker on CUDA.

    Raises BackendError if the largest passes cannot be computed.
    """
    longest = manifest.limits.max_prefix_tokens
    _run_largest(backend, manifest, config)
    # A product of fp8 by fp8 stops the stream, which ends a recording.
    if longest and not any(graph.fp8_products for graph in manifest.graphs):
        sizes = prefill_sizes(config.max_prefill_tokens, config.max_active_requests, longest)
        backend.record_prefills(sizes, passes_bytes(config))


def _run_largest(backend: DevicePrefixBackend, manifest: Manifest, config: EngineConfig) -> None:
    """Runs the passes that are sent most: memory that grows for them later would lose what is recorded."""
    longest = min(manifest.limits.max_prefix_tokens, config.max_prefill_tokens)
    if longest:
        backend.prefill(PrefixBatch.of([()], [TokenRun(np.zeros(longest, np.int64))], np.zeros(1, np.int64)))
    if manifest.embedding is not None:
        length = min(2, manifest.limits.max_item_tokens)
        count = max(1, config.max_batch_tokens // length)
        rows = np.zeros((length * count, manifest.embedding.hidden_size), np.float32)
        items = TokenRuns.of_lengths(np.full(length * count, EMBEDDED), [length] * count, (rows,))
        backend.score(PrefixBatch(((),), items, np.zeros(count, np.int64)))


def cuda_text_backend(
    bundle: Bundle, role: Role, config: EngineConfig, *, device: int = 0
) -> DeviceTextBackend:
    """Loads a graph of texts on one GPU. Raises as `cuda_prefix_backend`."""
    with _on_gpu(device) as memory:
        return DeviceTextBackend(bundle, role, _load(bundle, role, memory, config), memory)


def cuda_marked_backend(
    bundle: Bundle, role: Role, config: EngineConfig, *, device: int = 0
) -> DeviceMarkedBackend:
    """Loads a graph of texts that are read at markers on one GPU. Raises as `cuda_prefix_backend`."""
    with _on_gpu(device) as memory:
        graph = _load(bundle, role, memory, config)
        return DeviceMarkedBackend(bundle, role, graph, memory, cast=HalfFloatCast())


def cuda_set_backend(
    bundle: Bundle, stored: StoredRows, config: EngineConfig, *, device: int = 0
) -> DeviceSetBackend:
    """Loads a ranker of sets on one GPU, beside rows of its tables. Raises as `cuda_prefix_backend`."""
    with _on_gpu(device) as memory:
        memory.reserve(config.prefix_cache_bytes)
        graphs = {graph.role: _load(bundle, graph.role, memory, config) for graph in bundle.manifest.graphs}
        resident = device_rows(bundle.manifest, memory, stored, config.device_rows_bytes)
        return DeviceSetBackend(bundle.manifest, graphs, memory, resident)


def cuda_decode_backend(bundle: Bundle, config: EngineConfig, *, device: int = 0) -> DeviceDecodeBackend:
    """Loads a generator on one GPU. Raises as `cuda_prefix_backend`."""
    with _on_gpu(device) as memory:
        memory.reserve(config.prefix_cache_bytes)
        return DeviceDecodeBackend(bundle.manifest, _load(bundle, "decode", memory, config), memory)


@contextmanager
def _on_gpu(device: int) -> Iterator[CudaMemory]:
    """Gives the memory of a GPU, closed again if what is loaded into it fails."""
    require_provider()
    find_libraries()
    memory = CudaMemory(device)
    try:
        yield memory
    except BaseException:
        memory.close()
        raise


@cache
def find_libraries() -> str:
    """Has CUDA's libraries loaded that packages brought. Returns those that are not there, as ONNX Runtime tells them.

    It prints them to stdout, where answers are: a system may have brought others.
    """
    with redirect_stdout(io.StringIO()) as printed:
        onnxruntime.preload_dlls()
    return "; ".join(line for line in printed.getvalue().splitlines() if line.startswith("Failed"))


def require_provider() -> None:
    """Raises BackendError if the onnxruntime that is installed has no CUDA."""
    if PROVIDER not in onnxruntime.get_available_providers():
        raise BackendError(f"this onnxruntime ({onnxruntime.__version__}) has no CUDA: {CUDA_INSTALL}")


def _load(bundle: Bundle, role: Role, memory: CudaMemory, config: EngineConfig) -> BoundGraph:
    graph = bundle.graph(role)
    if graph.fp8_products:
        require_fp8(graph, list_gpus(), memory.device)
    check_graph_files(bundle, graph.file)
    path = bundle.file(graph.file)
    for records in (False,) if graph.fp8_products else (True, False):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Each session has its own for what is left to the processor, which is next to nothing.
        options.intra_op_num_threads = threads_of_a_pass(config)
        # Shapes differ from pass to pass: a cached memory plan per shape would only grow.
        options.enable_mem_pattern = False
        # Q/DQ stays enabled: without it low-bit constants would be dequantized once, and stay so in memory.
        provider = {
            "device_id": str(memory.device),
            "user_compute_stream": str(memory.stream),
            "use_tf32": "0",
            "enable_cuda_graph": str(int(records)),
        }
        try:
            with UNDISTURBED:
                session = onnxruntime.InferenceSession(path, options, providers=[(PROVIDER, provider)])
        except Exception as error:  # onnxruntime's exception classes share no other base
            if records and "graph" in str(error).lower() and "cuda" in str(error).lower():
                log.warning(
                    "%s cannot be recorded, each pass launches its kernels anew: %s", graph.file, error
                )
                continue
            message = f"ONNX Runtime cannot load {path.name} on CUDA: {reason_of(error)}"
            raise (BackendError if lacks_memory(error) else BundleError)(message) from error
        if PROVIDER not in session.get_providers():
            lacking = find_libraries() or f"see {CUDA_INSTALL}"
            raise BackendError(
                f"ONNX Runtime fell back to the CPU: its CUDA provider could not be loaded: {lacking}"
            )
        check = memory.cuda.check
        return BoundGraph(session, "cuda", memory.device, records=records, check_device=check)
    raise AssertionError("a session without recording was tried")
