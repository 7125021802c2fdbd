"""Bundle on TensorRT: its plans on one stream, behind the device backends. Builds nothing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from rankport.runtime.backends.contract import PrefixBackend, TextBackend
from rankport.runtime.backends.devices.cuda.memory import CudaMemory
from rankport.runtime.backends.devices.encoding import DeviceTextBackend
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend, ScoringGraphs
from rankport.runtime.backends.layouts.layout import Cast, cast_by_numpy
from rankport.runtime.backends.tensorrt.graph import TensorRtGraph
from rankport.runtime.backends.tensorrt.in_parts import BackendInParts
from rankport.runtime.backends.tensorrt.loading import load_graph
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role

BackendT = TypeVar("BackendT", PrefixBackend, TextBackend)


def tensorrt_prefix_backend(
    bundle: Bundle,
    *,
    device: int = 0,
    kv_bytes: int = 0,
    on_unlisted_gpu: Callable[[PrefixBackend], None] | None = None,
    cast: Cast = cast_by_numpy,
) -> PrefixBackend:
    """Loads a ranker on one GPU, where `kv_bytes` are taken for KV of prefixes; `cast` is of embeddings.

    `on_unlisted_gpu` compares its numbers where TensorRT does not list the GPU.

    Raises:
        UnsupportedGpu: it does not, and nothing is there to compare.
        BundleError: the bundle has no plan for this machine; the message says what differs from those it has.
        BackendError: there is no GPU or no TensorRT here, it has less memory, or a plan cannot be loaded.
    """
    shares_file = bundle.graph("prefix").file == bundle.graph("score").file
    roles: list[Role] = ["prefix"] if shares_file else ["prefix", "score"]
    with _loaded_graphs(bundle, roles, device, on_unlisted_gpu is not None, kv_bytes) as (memory, graphs):
        first, last = graphs[0], graphs[-1]
        backend = DevicePrefixBackend(bundle.manifest, ScoringGraphs(first, last), memory, cast=cast)
    in_parts = BackendInParts(backend, {"prefix": first.profiles, "score": last.profiles})
    return _compared(in_parts, graphs, on_unlisted_gpu)


def tensorrt_text_backend(
    bundle: Bundle,
    role: Role,
    *,
    device: int = 0,
    on_unlisted_gpu: Callable[[TextBackend], None] | None = None,
) -> TextBackend:
    """Loads a graph of texts on one GPU. Otherwise as `tensorrt_prefix_backend`, errors too."""
    with _loaded_graphs(bundle, [role], device, on_unlisted_gpu is not None) as (memory, (graph,)):
        backend = DeviceTextBackend(
            bundle,
            role,
            graph,
            memory,
            lambda sizes: any(profile.misfit(sizes) is None for profile in graph.profiles),
        )
    return _compared(backend, [graph], on_unlisted_gpu)


def _compared(
    backend: BackendT, graphs: Sequence[TensorRtGraph], compare: Callable[[BackendT], None] | None
) -> BackendT:
    """Has the numbers of a GPU that TensorRT does not list compared; closes what gives others."""
    if compare is None or all(graph.is_on_listed_gpu for graph in graphs):
        return backend
    try:
        compare(backend)
    except BaseException:
        backend.close()
        raise
    return backend


@contextmanager
def _loaded_graphs(
    bundle: Bundle, roles: Sequence[Role], device: int, allow_unsupported_gpu: bool, kv_bytes: int = 0
) -> Iterator[tuple[CudaMemory, list[TensorRtGraph]]]:
    """Loads what a backend is made of in the block, which owns it from then on; closed if that fails."""
    with ExitStack() as opened:
        memory = CudaMemory(device)
        opened.callback(memory.close)
        if kv_bytes:  # else each request would fail once a cache has grown to what there is
            memory.reserve(kv_bytes)
        graphs = []
        for role in roles:
            graph = load_graph(
                bundle, bundle.graph(role), memory, allow_unsupported_gpu=allow_unsupported_gpu
            )
            opened.callback(graph.close)
            graphs.append(graph)
        yield memory, graphs
        opened.pop_all()
