"""Which backend runs a ranker: decided by the device that the user names and the graphs that the bundle has."""

from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.base import ScoringBackend
from rankport.runtime.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig


def scoring_backend(bundle: Bundle, config: EngineConfig = DEFAULTS) -> ScoringBackend:
    """The backend of `config.device`, loaded.

    Raises:
        InvalidRequest: the bundle's graphs are not for that device; the message says what is.
        BundleError: a graph cannot be loaded.
        BackendError: there is no such device, or what drives it is not installed.
    """
    manifest = bundle.manifest
    if config.device == "cuda":
        from rankport.runtime.backends.onnxruntime_cuda import cuda_scoring_backend

        if any(graph.target != "onnx-cuda" for graph in manifest.graphs):
            raise InvalidRequest(
                f"bundle {manifest.name!r} has graphs for {manifest.graphs[0].target}, not for CUDA: export it with "
                "--target onnx-cuda, or serve it with --device cpu"
            )
        return cuda_scoring_backend(bundle)
    if manifest.precision != "fp32":
        raise InvalidRequest(
            f"bundle {manifest.name!r} is in {manifest.precision}, which a CPU does not compute in: serve it with "
            "--device cuda, or export it with --precision fp32"
        )
    from rankport.runtime.backends.onnxruntime import OnnxRuntimeScoringBackend

    return OnnxRuntimeScoringBackend(bundle, config)
