"""A ranker on TensorRT: its bundle's engines on one stream, behind the device backend."""

from rankport.runtime.backends.base import ScoringBackend
from rankport.runtime.backends.cuda_memory import CudaMemory
from rankport.runtime.backends.device_scoring import DeviceScoringBackend, ScoringGraphs
from rankport.runtime.backends.parts import BackendInParts
from rankport.runtime.backends.tensorrt import TensorRtGraph
from rankport.runtime.backends.tensorrt_loading import load_graph
from rankport.runtime.bundle import Bundle


def tensorrt_scoring_backend(bundle: Bundle, *, device: int = 0) -> ScoringBackend:
    """The ranker on one GPU; builds nothing.

    Raises:
        BundleError: the bundle has no engine for this machine; the message says what differs from those it has.
        BackendError: there is no GPU or no TensorRT here, or an engine cannot be loaded.
    """
    prefix, score = bundle.graph("prefix"), bundle.graph("score")
    memory = CudaMemory(device)
    loaded: list[TensorRtGraph] = []
    try:
        for spec in (prefix,) if prefix.file == score.file else (prefix, score):
            loaded.append(load_graph(bundle, spec, memory.stream, device=device))
    except BaseException:
        for graph in loaded:
            graph.close()
        memory.close()
        raise
    first, last = loaded[0], loaded[-1]
    backend = DeviceScoringBackend(bundle.manifest, ScoringGraphs(first, last), memory)
    return BackendInParts(backend, {"prefix": first.profiles, "score": last.profiles})
