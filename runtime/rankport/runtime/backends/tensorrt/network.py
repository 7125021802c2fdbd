"""ONNX graphs as TensorRT networks: which nodes it takes, and plans built from those it takes whole.

Owns parsing and building; which profiles and for which GPU, the caller decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from rankport.protos.errors import BundleError
from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.calls import call_interruptibly, make_monitor
from rankport.runtime.backends.tensorrt.module import TensorRt, make_log, take_errors
from rankport.runtime.backends.tensorrt.profiles import Profile
from rankport.runtime.bundle.graph_files import graph_nodes
from rankport.runtime.bundle.manifest import TensorSpec

_SHOWN_NAMES = 3
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class RefusedNode:
    """Node that TensorRT does not take; `operator` is empty where the file as a whole is meant."""

    operator: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """Graph to build a plan of, and for which GPU."""

    graph: Path
    inputs: Sequence[TensorSpec]
    profiles: Sequence[Profile]
    architecture: str | None  # None: the GPU at hand
    options: BuildOptions
    timing_cache: Path | None = None  # read and written, where the module keeps one


def list_refused_nodes(module: TensorRt, graph: Path) -> tuple[RefusedNode, ...]:
    """Lists every node that the parser refuses, each with its reason; none if the graph can be built."""
    parsed = _Network(module)
    if parsed.parser.supports_model_v2(graph.read_bytes(), str(graph)):
        return ()
    refused = parsed.refusals()
    if not any(node.operator for node in refused):
        return refused
    # Where the parser trips over one node, it says nothing of those after it.
    named = {(node.operator, node.node) for node in refused}
    return *refused, *(node for node in parsed.unknown(graph) if (node.operator, node.node) not in named)


def check_supported(module: TensorRt, graph: Path) -> None:
    """Raises `BundleError` with all nodes that TensorRT does not take."""
    refused = call_interruptibly(lambda _: list_refused_nodes(module, graph))
    if refused:
        raise BundleError(_refusal(module, graph, refused))


def compile_graph(module: TensorRt, request: BuildRequest) -> memoryview:
    """Builds the plan of one graph. Ctrl-C ends the build.

    Raises:
        BundleError: the graph, a profile or an option does not fit; the message has TensorRT's own words.
    """
    return call_interruptibly(lambda stopped: _compile(module, request, stopped))


def _compile(module: TensorRt, request: BuildRequest, stopped: Event) -> memoryview:
    parsed = _Network(module)
    if not parsed.parser.parse_from_file(str(request.graph)):
        raise BundleError(_refusal(module, request.graph, parsed.refusals()))
    config = parsed.builder.create_builder_config()
    monitor = make_monitor(module, stopped)  # which must outlive the build
    config.progress_monitor = monitor
    _set_options(module, config, request)
    for profile in request.profiles:
        _add_profile(parsed, config, request, profile)
    cache = _timing_cache(module, config, request.timing_cache)
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    if plan is None:
        raise BundleError(
            f"{request.graph.name}: {module.name} {module.version} cannot build it: {take_errors(parsed.log)}"
        )
    if cache is not None and request.timing_cache is not None:
        cache = config.get_timing_cache()
        _keep(request.timing_cache, memoryview(cache.serialize()))
    return memoryview(plan)


class _Network:
    """Builder, network and parser, which must outlive each other."""

    def __init__(self, module: TensorRt) -> None:
        self._module = module
        self.log = make_log(module)
        self.builder = module.api.Builder(self.log)
        # Networks of version 11 are strongly typed without being asked.
        self.network = self.builder.create_network(0)
        self.parser = module.api.OnnxParser(self.network, self.log)

    def refusals(self) -> tuple[RefusedNode, ...]:
        refusals = [self.parser.get_error(index) for index in range(self.parser.num_errors)]
        refused = [
            RefusedNode(refusal.node_operator(), refusal.node_name(), self._reason(refusal))
            for refusal in refusals
        ]
        return tuple(refused) or (RefusedNode("", "", take_errors(self.log)),)

    def unknown(self, graph: Path) -> Iterator[RefusedNode]:
        """Yields nodes of operators that the parser does not know, or that are not of the ONNX standard."""
        for node in graph_nodes(graph):
            if node.domain not in _STANDARD:
                reason = f"an operator of {node.domain}, not of the ONNX standard"
                yield RefusedNode(node.operator, node.name, reason)
            elif not self.parser.supports_operator(node.operator):
                yield RefusedNode(node.operator, node.name, "TensorRT has no such operator")

    def is_shape(self, name: str) -> bool:
        inputs = [self.network.get_input(place) for place in range(self.network.num_inputs)]
        return next((bool(tensor.is_shape_tensor) for tensor in inputs if tensor.name == name), False)

    def has_input(self, name: str) -> bool:
        return any(self.network.get_input(place).name == name for place in range(self.network.num_inputs))

    def _reason(self, refusal: Any) -> str:
        detail = refusal.desc()
        if refusal.code() == self._module.api.ErrorCode.UNSUPPORTED_NODE and detail in ("", "false"):
            return "TensorRT has no such operator"
        # In the words of 11.4 and TensorRT-RTX 1.7, and in those of TensorRT-RTX 1.4.
        if "Plugin not found" in detail or detail.startswith("Op type "):
            return "TensorRT has no such operator, nor a plugin for it"
        return str(detail)


def _refusal(module: TensorRt, graph: Path, refused: Sequence[RefusedNode]) -> str:
    """Says all of them in one line: nodes of one operator that are refused for one reason together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for node in refused:
        groups.setdefault((node.operator, node.reason), []).append(node.node)
    words = "; ".join(_group(operator, reason, names) for (operator, reason), names in groups.items())
    return (
        f"{graph.name}: {module.name} {module.version} does not take {len(refused)} of its nodes: {words}: "
        "export for it with --target tensorrt"
    )


def _group(operator: str, reason: str, names: Sequence[str]) -> str:
    if not operator:
        return reason
    shown = ", ".join(map(repr, names[:_SHOWN_NAMES])) + (", …" if len(names) > _SHOWN_NAMES else "")
    return f"{operator} ({f'node {shown}' if len(names) == 1 else f'{len(names)} nodes: {shown}'}): {reason}"


def _set_options(module: TensorRt, config: Any, request: BuildRequest) -> None:
    api, options = module.api, request.options
    if not options.tf32:  # on by default there: float32 would not be what was proven
        config.clear_flag(api.BuilderFlag.TF32)
    if options.strip_weights:
        config.set_flag(api.BuilderFlag.STRIP_PLAN)
        config.set_flag(api.BuilderFlag.REFIT_IDENTICAL)
    if options.hardware_compatible:
        config.hardware_compatibility_level = api.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if module.can.targets:
        name = "CURRENT" if request.architecture is None else request.architecture.upper()
        config.num_compute_capabilities = 1
        config.set_compute_capability(api.ComputeCapability.__members__[name], 0)


def _add_profile(parsed: _Network, config: Any, request: BuildRequest, profile: Profile) -> None:
    ranges = parsed.builder.create_optimization_profile()
    for spec in request.inputs:
        # A role's spec may list an input that only the graph's other role reads.
        if not parsed.has_input(spec.name):
            continue
        if not parsed.is_shape(spec.name):
            ranges.set_shape(spec.name, *profile.shapes(spec))
        elif spec.name in profile.values:
            values = profile.values[spec.name]
            ranges.set_shape_input(spec.name, *((value,) for value in (values.min, values.opt, values.max)))
        else:
            raise BundleError(
                f"{request.graph.name}: the values of {spec.name!r} decide shapes, and the profile "
                f"{profile.name!r} gives none"
            )
    if config.add_optimization_profile(ranges) < 0:
        raise BundleError(
            f"{request.graph.name}: the profile {profile.name!r} does not fit: {take_errors(parsed.log)}"
        )


def _timing_cache(module: TensorRt, config: Any, file: Path | None) -> Any:
    """Gives the build its timings, alive until it has ended; None: it keeps none."""
    if file is None or not module.can.timing_cache:
        return None
    # One of another GPU or version, or none at all, is refused: the build starts from nothing, and replaces it.
    for content in (file.read_bytes() if file.is_file() else b"", b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
    return None


def _keep(file: Path, content: memoryview) -> None:
    beside = file.with_name(f".{file.name}.new")
    beside.write_bytes(content)
    beside.replace(file)
