"""Plans for a bundle's graphs: which graphs, for which GPU, and only those that are not there yet.

Owns the order of work. Parsing and building are `network`'s, places and records `plan_files`'.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rankport.protos.errors import BundleError, InvalidRequest
from rankport.runtime.backends.devices.cuda.gpus import Gpu, list_gpus
from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.module import CAPABILITIES, ModuleName, TensorRt, load_tensorrt
from rankport.runtime.backends.tensorrt.network import BuildRequest, check_supported, compile_graph
from rankport.runtime.backends.tensorrt.plan_files import (
    StoredPlan,
    graph_hashes,
    look_up,
    open_plan,
    plan_directory,
    write_plan,
)
from rankport.runtime.backends.tensorrt.plan_key import PlanKey
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.backends.tensorrt.profiles import profiles_for
from rankport.runtime.backends.tensorrt.validity import TRY
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.graph_files import check_graph_files, graph_nodes
from rankport.runtime.bundle.manifest import GraphSpec, Role

DEFAULT_TARGETS = ("sm86", "sm89", "sm120")
"""Architectures that TensorRT-RTX builds for without a word: workstation GPUs of the last three generations."""

_MODULES: dict[str, ModuleName] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_COMPATIBLE = "sm80+"
_CURRENT = "current"
_LOW_BITS = ("QuantizeLinear", "DequantizeLinear")
_GRAPH_TARGETS = ("tensorrt", "onnx-cpu")  # the better first
TIMING_CACHE_NAME = "timing.cache"


@dataclass(frozen=True, slots=True)
class BuildTarget:
    """Module, and the architectures to build for; None is that of the GPU at hand."""

    module: ModuleName
    architectures: tuple[str | None, ...]

    @classmethod
    def parse(cls, text: str) -> "BuildTarget":
        """Reads `tensorrt`, `tensorrt-rtx`, `tensorrt-rtx:sm86,sm89` or `tensorrt-rtx:current`.

        Raises `InvalidRequest` for anything else.
        """
        name, colon, rest = text.partition(":")
        module = _MODULES.get(name)
        if module is None:
            raise InvalidRequest(f"target {text!r}: must be one of {', '.join(_MODULES)}")
        known = CAPABILITIES[module].targets
        if colon and not known:
            raise InvalidRequest(
                f"target {text!r}: {name} builds for the GPU at hand alone: leave {rest!r} out"
            )
        if not known or rest == _CURRENT:
            return cls(module, (None,))
        chosen = tuple(dict.fromkeys(rest.split(","))) if colon else DEFAULT_TARGETS
        for architecture in chosen:
            if architecture not in known:
                raise InvalidRequest(
                    f"target {text!r}: {name} has no architecture {architecture!r}, only {', '.join(known)}, or "
                    f"{_CURRENT} alone: what the GPU at hand has"
                )
        return cls(module, chosen)


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """Plan of a build, and whether it was built or there."""

    plan: StoredPlan
    seconds: float
    state: Literal["built", "there"]  # "there": it was and fits, nothing was done
    replaced: str  # why one that was there did not fit; empty where none was


@dataclass(frozen=True, slots=True)
class _Graph:
    """Graph file of the bundle and the roles it has."""

    spec: GraphSpec
    roles: tuple[Role, ...]


def build_plans(
    bundle: Bundle,
    target: BuildTarget,
    *,
    options: BuildOptions | None = None,
    limits: ProfileLimits | None = None,
    force: bool = False,
    allow_unsupported_gpu: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> list[BuiltPlan]:
    """Builds what is missing, into the bundle. What is there and fits stays, unless `force`.

    `allow_unsupported_gpu`: also for a GPU at hand that the module does not list.

    Raises:
        BackendError: the module is not installed.
        InvalidRequest: the module or this machine cannot do what `target` or `options` ask.
        BundleError: no device would run the plans, or a graph cannot be built; nothing was built then if the parser
            could tell.
    """
    options = options or BuildOptions()
    _check_kind(bundle)
    module = require_target(target, options, allow_unsupported_gpu=allow_unsupported_gpu)
    here, graphs = list_gpus(), _graphs(bundle)
    for graph in graphs:
        on_progress(f"checking the operators of {graph.spec.file}")
        check_graph_files(bundle, graph.spec.file)
        check_supported(module, bundle.file(graph.spec.file))
        if not here and not module.can.low_bits_without_gpu:
            _refuse_low_bits(module, bundle.file(graph.spec.file))
    keys = [
        (graph, _key(bundle, module, graph, architecture, here, options, limits or ProfileLimits()))
        for architecture in target.architectures
        for graph in graphs
    ]
    return [_ensure_plan(bundle, module, graph, key, force, on_progress) for graph, key in keys]


def require_target(
    target: BuildTarget, options: BuildOptions | None = None, *, allow_unsupported_gpu: bool = False
) -> TensorRt:
    """Loads the module that builds for `target`, if it and this machine can do that; raises as `build_plans`."""
    module, here = load_tensorrt(target.module), list_gpus()
    _check_options(module, target, options or BuildOptions(), here)
    _check_architectures(module, target, here, allow_unsupported_gpu)
    return module


def _ensure_plan(
    bundle: Bundle,
    module: TensorRt,
    graph: _Graph,
    key: PlanKey,
    force: bool,
    on_progress: Callable[[str], None],
) -> BuiltPlan:
    stored = look_up(bundle, key)
    reason = "" if stored.plan is None and not plan_directory(bundle, key).exists() else stored.reason
    if stored.plan is not None and not force:
        reason = _damage(stored.plan)
        if not reason:
            return BuiltPlan(stored.plan, 0.0, "there", "")
    machine = key.gpu or key.architecture
    on_progress(f"building {graph.spec.file} for {machine}, {len(key.profiles)} profiles")
    started = time.monotonic()
    timings = plan_directory(bundle, key).parent / TIMING_CACHE_NAME
    if module.can.timing_cache:
        timings.parent.mkdir(parents=True, exist_ok=True)
    content = compile_graph(
        module,
        BuildRequest(
            graph=bundle.file(graph.spec.file),
            inputs=graph.spec.inputs,
            profiles=key.profiles,
            architecture=key.architecture if key.architecture in module.can.targets else None,
            options=key.options,
            timing_cache=timings,
        ),
    )
    plan = write_plan(bundle, key, content)
    return BuiltPlan(plan, time.monotonic() - started, "built", reason)


def _damage(plan: StoredPlan) -> str:
    try:
        with open_plan(plan):
            return ""
    except BundleError as error:
        return str(error)


def _check_options(
    module: TensorRt, target: BuildTarget, options: BuildOptions, here: tuple[Gpu, ...]
) -> None:
    if options.hardware_compatible and not module.can.hardware_compatibility:
        raise InvalidRequest(
            f"{module.name} has no hardware-compatible plans: name architectures, "
            f"--target tensorrt-rtx:{','.join(DEFAULT_TARGETS)}"
        )
    if options.optimization_level is not None and not module.can.optimization_levels:
        raise InvalidRequest(
            f"{module.name} {module.version} builds the same plan at every level: leave --optimization-level out"
        )
    # TensorRT-RTX compiles kernels that take weights at load through the driver, for every target.
    if options.strip_weights and not here:
        raise InvalidRequest(
            f"{module.name} {module.version} strips weights only on a machine with a GPU, and there is none here: "
            "leave --strip-weights out, or build where the plan will run"
        )
    if None in target.architectures and not here:
        raise InvalidRequest(
            f"{module.name} is to build for the GPU at hand, and there is none here (rankport doctor says more): "
            f"build where the plan will run, or for --target tensorrt-rtx:{','.join(DEFAULT_TARGETS)}"
        )


def _check_architectures(
    module: TensorRt, target: BuildTarget, here: tuple[Gpu, ...], allow_unsupported_gpu: bool
) -> None:
    listed = module.can.targets
    for architecture in target.architectures:
        if architecture is not None and architecture not in listed:
            raise InvalidRequest(
                f"{module.name} {module.version} has no architecture {architecture!r}, only {', '.join(listed)}"
            )
        current = here[0] if architecture is None and listed else None
        if current is not None and current.architecture not in listed and not allow_unsupported_gpu:
            raise InvalidRequest(
                f"{module.name} {module.version} lists {', '.join(listed)}, and {current.name} is "
                f"{current.architecture}: {TRY}"
            )


def _refuse_low_bits(module: TensorRt, graph: Path) -> None:
    if any(node.operator in _LOW_BITS for node in graph_nodes(graph)):
        raise InvalidRequest(
            f"{graph.name}: {module.name} {module.version} builds graphs of low bits on a machine with a GPU alone, "
            "and there is none here: build where the plan will run, or take a newer version"
        )


def _graphs(bundle: Bundle) -> list[_Graph]:
    """Chooses the files to build: a role's graph made for TensorRT, else that of standard float operators."""
    chosen: dict[Role, GraphSpec] = {}
    for target in reversed(_GRAPH_TARGETS):
        chosen |= {
            spec.role: spec
            for spec in bundle.manifest.graphs
            if spec.target == target and _takes_tokens(spec)
        }
    if not chosen:
        targets = sorted({spec.target for spec in bundle.manifest.graphs})
        raise BundleError(
            f"{bundle.path}: has graphs for {', '.join(targets)} only: export with --target tensorrt"
        )
    files = dict.fromkeys(spec.file for spec in chosen.values())
    return [
        _Graph(
            next(spec for spec in chosen.values() if spec.file == file),
            tuple(role for role, spec in chosen.items() if spec.file == file),
        )
        for file in files
    ]


def _check_kind(bundle: Bundle) -> None:
    """Raises BundleError for a bundle whose plans nothing could run."""
    does = bundle.manifest.without_plans
    if does is not None:
        raise BundleError(
            f"{bundle.path}: {does}, which no plan is run for yet: a plan of it would never be used; leave it as it is"
        )


def _takes_tokens(spec: GraphSpec) -> bool:
    """Says whether a graph runs on the GPU: one of plain arrays stays on the CPU."""
    return any(tensor.name == "input_ids" for tensor in spec.inputs)


def _key(
    bundle: Bundle,
    module: TensorRt,
    graph: _Graph,
    architecture: str | None,
    here: tuple[Gpu, ...],
    options: BuildOptions,
    limits: ProfileLimits,
) -> PlanKey:
    graph_sha256, weights = graph_hashes(bundle, graph.spec.file)
    if architecture is None:
        architecture = _COMPATIBLE if options.hardware_compatible else here[0].architecture
    profiles = profiles_for(graph.spec.inputs, graph.roles, bundle.manifest.axes, limits)
    return PlanKey(
        graph=graph.spec.file,
        graph_sha256=graph_sha256,
        weights=weights,
        module=module.name,
        module_version=module.version,
        architecture=architecture,
        gpu=None if module.can.targets or options.hardware_compatible else here[0].name,
        profiles=list(profiles),
        options=options,
    )
