"""Statements of a manifest about its graphs, beside the graph files: changed by hand or a tool, they pass every mode.

Owns the comparison. It reads no weights.
"""

from collections.abc import Iterator
from itertools import zip_longest

import onnx_ir as ir

from rankport.exporters.graphs.passes.fp8_products import multiplies_fp8
from rankport.exporters.graphs.passes.half_precision import TYPES
from rankport.exporters.graphs.specs import axis_ranges, tensor_spec
from rankport.protos.errors import BundleError
from rankport.protos.reasons import reason_of
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import AxisRange, GraphSpec, LayerKV, Manifest, Target, TensorSpec
from rankport.runtime.bundle.manifest_json import MANIFEST_NAME

_KEYS = "past_key."
"""Start of the names of inputs of keys [..., heads, tokens, width], behind which the layer's number stands."""


def require_as_stated(bundle: Bundle) -> None:
    """Raises BundleError for the first field that says otherwise than the graphs."""
    graphs = {spec.file: _read(bundle, spec.file) for spec in bundle.manifest.graphs}
    for complaint in _complaints(bundle.manifest, graphs):
        raise BundleError(
            f"{bundle.path}: {MANIFEST_NAME}: {complaint}: it was changed since the export, export again"
        )


def _read(bundle: Bundle, file: str) -> ir.Graph:
    try:
        return ir.load(bundle.file(file)).graph
    except Exception as error:  # protobuf's and the reader's own exceptions
        raise BundleError(f"{bundle.path}: {file!r} is no ONNX graph: {reason_of(error)}") from error


def _complaints(manifest: Manifest, graphs: dict[str, ir.Graph]) -> Iterator[str]:
    for index, spec in enumerate(manifest.graphs):
        for field, complaint in _of_graph(manifest, spec, graphs[spec.file]):
            yield f"graphs[{index}].{field}: {complaint}"
    for target in manifest.targets:
        yield from _precision(manifest, target, graphs)
    yield from _layers(manifest)


def _of_graph(manifest: Manifest, spec: GraphSpec, graph: ir.Graph) -> Iterator[tuple[str, str]]:
    opset = graph.opset_imports.get("")
    if spec.opset != opset:
        yield "opset", f"is {spec.opset}, {spec.file} has {opset}"
    if spec.fp8_products != multiplies_fp8(graph):
        yield "fp8_products", f"is {spec.fp8_products}, {spec.file} says otherwise"
    for given, taken in zip_longest(spec.inputs, map(tensor_spec, graph.inputs)):
        if given != taken:
            yield "inputs", f"are {_words(given)} where {spec.file} has {_words(taken)}"
    outputs = {value.name: tensor_spec(value) for value in graph.outputs}
    for output in spec.outputs:
        if output != outputs.get(output.name):
            yield "outputs", f"are {_words(output)} where {spec.file} has {_words(outputs.get(output.name))}"
    alike = [other for other in manifest.graphs if other.file == spec.file]
    unread = outputs.keys() - {output.name for other in alike for output in other.outputs}
    if unread:
        yield "outputs", f"lack {min(map(str, unread))!r} of {spec.file}"


def _words(tensor: TensorSpec | None) -> str:
    return "nothing" if tensor is None else f"{tensor.name!r} {tensor.dtype} {tensor.shape}"


def _precision(manifest: Manifest, target: Target, graphs: dict[str, ir.Graph]) -> Iterator[str]:
    """Reads a target's precision off its weights: those of two towers' last graph are in fp32 in any.

    What says fp32 is held to it by the limits, and a graph that was imported may keep weights in half.
    """
    view = manifest.for_target(target)
    if view.precision == "fp32":
        return
    types = {
        value.dtype
        for spec in view.graphs
        for value in graphs[spec.file].initializers.values()
        if value.dtype
    }
    found = {name for name, dtype in TYPES.items() if dtype in types} or {"fp32"}
    if found != {view.precision}:
        yield f"precision: is {view.precision}, the graphs for {target} have {' and '.join(sorted(found))}"


def _layers(manifest: Manifest) -> Iterator[str]:
    keys = {
        int(tensor.name.removeprefix(_KEYS)): (tensor.shape[-3], tensor.shape[-1])
        for spec in manifest.graphs
        for tensor in spec.inputs
        if tensor.name.startswith(_KEYS)
    }
    found = [_layer(*keys[number]) for number in sorted(keys)]
    if found != manifest.shape.layers:
        yield f"shape.layers: are {_layer_words(manifest.shape.layers)}, the graphs have {_layer_words(found)}"


def _layer(heads: int | str, width: int | str) -> LayerKV:
    return LayerKV(kv_heads=int(heads), head_dim=int(width))


def _layer_words(layers: list[LayerKV]) -> str:
    return f"[{', '.join(f'{layer.kv_heads} × {layer.head_dim}' for layer in layers)}]"


def other_axes(manifest: Manifest) -> Iterator[str]:
    """Says of which axes a bundle states other sizes than its limits allow: plans of TensorRT are made for them."""
    expected = axis_ranges(manifest.graphs, manifest.limits, manifest.pair, manifest.lists)
    for name in sorted(expected.keys() | manifest.axes.keys()):
        stated, wanted = manifest.axes.get(name), expected.get(name)
        if stated != wanted:
            yield f"axes.{name}: is {_range(stated)}, by the bundle's limits it is {_range(wanted)}"


def _range(sizes: AxisRange | None) -> str:
    return "nothing" if sizes is None else f"{sizes.min} to {sizes.max}"
