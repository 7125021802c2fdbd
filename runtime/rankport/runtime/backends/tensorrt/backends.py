"""Bundle on TensorRT: its plans on one stream, behind the device backends. Builds nothing."""

from collections.abc import Sequence
from contextlib import ExitStack

from rankport.runtime.backends.contract import PrefixBackend, TextBackend
from rankport.runtime.backends.devices.cuda_memory import CudaMemory
from rankport.runtime.backends.devices.encoding import DeviceTextBackend
from rankport.runtime.backends.devices.scoring import DevicePrefixBackend, ScoringGraphs
from rankport.runtime.backends.tensorrt.graph import TensorRtGraph
from rankport.runtime.backends.tensorrt.in_parts import BackendInParts
from rankport.runtime.backends.tensorrt.loading import load_graph
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role


def tensorrt_prefix_backend(bundle: Bundle, *, device: int = 0) -> PrefixBackend:
    """Loads a ranker on one GPU.

    Raises:
        BundleError: the bundle has no plan for this machine; the message says what differs from those it has.
        BackendError: there is no GPU or no TensorRT here, or a plan cannot be loaded.
    """
    shares_file = bundle.graph("prefix").file == bundle.graph("score").file
    memory, graphs = _load_graphs(bundle, ["prefix"] if shares_file else ["prefix", "score"], device)
    first, last = graphs[0], graphs[-1]
    backend = DevicePrefixBackend(bundle.manifest, ScoringGraphs(first, last), memory)
    return BackendInParts(backend, {"prefix": first.profiles, "score": last.profiles})


def tensorrt_text_backend(bundle: Bundle, role: Role, *, device: int = 0) -> TextBackend:
    """Loads a graph of texts on one GPU. Raises as `tensorrt_prefix_backend`."""
    memory, (graph,) = _load_graphs(bundle, [role], device)
    return DeviceTextBackend(
        bundle,
        role,
        graph,
        memory,
        lambda sizes: any(profile.misfit(sizes) is None for profile in graph.profiles),
    )


def _load_graphs(
    bundle: Bundle, roles: Sequence[Role], device: int
) -> tuple[CudaMemory, list[TensorRtGraph]]:
    with ExitStack() as opened:
        memory = CudaMemory(device)
        opened.callback(memory.close)
        graphs = []
        for role in roles:
            graph = load_graph(bundle, bundle.graph(role), memory)
            opened.callback(graph.close)
            graphs.append(graph)
        opened.pop_all()
    return memory, graphs
