"""Loading of a bundle's plans: the one built for this GPU and this module, or a word about what differs.

Builds nothing: that is `build`'s, and a choice of whoever starts the server.
"""

from shlex import quote

from rankport.protos.errors import BackendError, BundleError
from rankport.runtime.backends.devices.cuda.gpus import Gpu, list_gpus
from rankport.runtime.backends.devices.cuda.memory import CudaMemory
from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.graph import TensorRtGraph
from rankport.runtime.backends.tensorrt.module import CAPABILITIES, MODULE_NAMES, TensorRt, load_tensorrt
from rankport.runtime.backends.tensorrt.plan_files import StoredPlan, graph_hashes, look_up, open_plan
from rankport.runtime.backends.tensorrt.plan_key import PlanKey
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import GraphSpec


def load_graph(
    bundle: Bundle, graph: GraphSpec, memory: CudaMemory, *, allow_unsupported_gpu: bool = False
) -> TensorRtGraph:
    """Loads the plan of one graph beside `memory`, on its stream, with whatever profiles and options it was built.

    Raises:
        UnsupportedGpu: TensorRT does not list this GPU, and to try is not allowed.
        BundleError: the bundle has no plan for this machine, or a damaged one; the message says what differs.
        BackendError: there is no GPU or no TensorRT here, or the plan cannot be loaded.
    """
    here = list_gpus()
    if memory.device >= len(here):
        raise BackendError(
            f"device {memory.device}: this machine has {len(here)} GPUs (rankport doctor says more)"
        )
    stored, module = find_plan(bundle, graph, here[memory.device])
    key = stored.record.key
    weights = bundle.file(graph.file) if key.options.strip_weights else None
    with open_plan(stored) as plan:
        return TensorRtGraph(
            *(module, plan, graph.inputs, key.profiles, memory.cuda),
            weights=weights,
            allow_unsupported_gpu=allow_unsupported_gpu,
        )


def find_plan(bundle: Bundle, graph: GraphSpec, gpu: Gpu) -> tuple[StoredPlan, TensorRt]:
    """Finds the plan that fits, and the module that runs it; raises as `load_graph`."""
    reasons = []
    for name in MODULE_NAMES:
        try:
            module = load_tensorrt(name)
        except BackendError as error:
            reasons.append(str(error))
            continue
        answer = look_up(bundle, _wanted(bundle, graph, module, gpu), ignoring=("profiles", "options"))
        if answer.plan is not None:
            return answer.plan, module
        reasons.append(f"{name} {module.version}: {answer.reason}")
    raise BundleError(
        f"{bundle.path}: no plan of {graph.file} for {gpu.name} ({gpu.architecture}): {'; '.join(reasons)}: "
        f"rankport build {quote(str(bundle.path))} --target {_target(gpu)}"
    )


def _target(gpu: Gpu) -> str:
    known = gpu.architecture in CAPABILITIES["tensorrt_rtx"].targets
    return f"tensorrt-rtx:{gpu.architecture}" if known else "tensorrt"


def _wanted(bundle: Bundle, graph: GraphSpec, module: TensorRt, gpu: Gpu) -> PlanKey:
    graph_sha256, weights = graph_hashes(bundle, graph.file)
    return PlanKey(
        graph=graph.file,
        graph_sha256=graph_sha256,
        weights=weights,
        module=module.name,
        module_version=module.version,
        architecture=gpu.architecture,
        gpu=None if module.can.targets else gpu.name,
        profiles=[],
        options=BuildOptions(),
    )
