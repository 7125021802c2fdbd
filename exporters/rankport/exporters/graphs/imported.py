"""A graph that was given as a file, as one operation of a torch module: run as it is, and inlined where it is traced.

Owns the way of a foreign graph into ours: its operators brought to our opset, its names kept apart from others. What
its inputs and outputs mean, `checkpoints` knows.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from onnxscript import version_converter
from torch import Tensor, nn

from rankport.protos.errors import CheckpointError
from rankport.protos.reasons import reason_of
from rankport.runtime.backends.ort.graph_file import GraphFile

_DOMAIN, _OPERATOR = "rankport.imported", "Graph"
_KNOWN_DOMAINS = ("", "ai.onnx", "com.microsoft")


class ImportedGraph(nn.Module):
    """One output of a graph file, fp32, of inputs [items, tokens] int64: by ONNX Runtime, or as a node in a trace."""

    def __init__(self, file: Path, output: str, width: int, rows_are_tokens: bool) -> None:
        """Takes a file's `output` [items, tokens, width], or [items, width] where rows are no tokens.

        Raises BackendError where ONNX Runtime does not load it.
        """
        super().__init__()
        self.file = file  # read again where it is inlined: a trace needs none of its weights
        self.output, self.width, self.rows_are_tokens = output, width, rows_are_tokens
        self.runtime = GraphFile(file)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Computes the output of all inputs by name."""
        if torch.compiler.is_exporting():
            return self._node(inputs)
        arrays = {name: value.numpy() for name, value in inputs.items()}
        return torch.from_numpy(self.runtime.run(self.output, arrays))

    def _node(self, inputs: Mapping[str, Tensor]) -> Tensor:
        items, tokens = next(iter(inputs.values())).shape
        ordered: list[Tensor | None] = [inputs[name] for name in sorted(inputs)]
        return torch.onnx.ops.symbolic(
            f"{_DOMAIN}::{_OPERATOR}",
            ordered,
            {},
            dtype=torch.float32,
            shape=(items, tokens, self.width) if self.rows_are_tokens else (items, self.width),
            version=1,
        )


def read_graph(file: Path) -> ir.Model:
    """Reads a graph file, its functions inlined. Weights that lie in other files stay there.

    Raises CheckpointError for a file that is no graph, for operators of a domain that no ONNX Runtime has by itself,
    and for weights outside the file's folder.
    """
    try:
        model = ir.load(file)
    except Exception as error:  # protobuf's and the reader's own exceptions
        raise CheckpointError(f"{file} is no ONNX graph: {reason_of(error)}") from error
    passes.InlinePass()(model)
    foreign = sorted({node.domain for node in model.graph.all_nodes()} - set(_KNOWN_DOMAINS))
    if foreign:
        raise CheckpointError(
            f"{file} has operators of the domain {foreign[0]!r}, which ONNX Runtime has not by itself: export the "
            "checkpoint again without them"
        )
    for name, tensor in _weights(model):
        if isinstance(tensor, ir.ExternalTensor) and Path(str(tensor.location)).name != str(tensor.location):
            raise CheckpointError(
                f"{file}: weight {name!r} lies at {str(tensor.location)!r}, outside the folder"
            )
    return model


def _weights(model: ir.Model) -> Iterator[tuple[str, object]]:
    """Yields every tensor that a file says: weights by name, and those of nodes, in graphs within the graph too."""
    graphs = [model.graph]
    for node in model.graph.all_nodes():
        for attribute in node.attributes.values():
            match attribute.type:
                case ir.AttributeType.TENSOR:
                    yield str(node.name), attribute.value
                case ir.AttributeType.TENSORS:
                    yield from ((str(node.name), tensor) for tensor in attribute.value)
                case ir.AttributeType.GRAPH:
                    graphs.append(attribute.as_graph())
                case ir.AttributeType.GRAPHS:
                    graphs += attribute.as_graphs()
    for graph in graphs:
        yield from ((name, value.const_value) for name, value in graph.initializers.items())


def inline_imported(model: ir.Model, module: nn.Module, opset: int) -> None:
    """Puts the nodes of the module's imported graph in the place of the node that stands for it, at most one."""
    parts = [part for part in module.modules() if isinstance(part, ImportedGraph)]
    nodes = [node for node in model.graph if node.domain == _DOMAIN]
    if not nodes:
        return
    (part,), (node,) = parts, nodes
    source = _at_opset(read_graph(part.file), opset)
    output = next(value for value in source.graph.outputs if value.name == part.output)
    source.graph.outputs.clear()
    source.graph.outputs.append(output)
    passes.RemoveUnusedNodesPass()(source)
    _prefix_names(source.graph)
    by_name = sorted(source.graph.inputs, key=lambda value: str(value.name))
    for given, taken in zip(by_name, node.inputs, strict=True):
        assert taken is not None
        ir.convenience.replace_all_uses_with(given, taken)
    for value in list(source.graph.initializers.values()):
        source.graph.initializers.pop(str(value.name))
        model.graph.register_initializer(value)
    source.graph.outputs.clear()
    inner = list(source.graph)
    source.graph.remove(inner)
    model.graph.insert_before(node, inner)
    ir.convenience.replace_all_uses_with(node.outputs[0], output, replace_graph_outputs=True)
    output.name = node.outputs[0].name  # by which it may be an output of the whole
    model.graph.remove(node, safe=True)
    model.opset_imports.pop(_DOMAIN, None)
    model.opset_imports.update(
        {domain: version for domain, version in source.opset_imports.items() if domain == "com.microsoft"}
    )


def _at_opset(model: ir.Model, opset: int) -> ir.Model:
    """Converts the operators. Raises CheckpointError where ONNX's converter cannot."""
    own = model.opset_imports.get("", opset)
    if own != opset:
        try:
            with _quiet():
                version_converter.convert_version(model, opset, fallback=True)
        except Exception as error:  # the converters' own exceptions
            raise CheckpointError(f"the graph's opset {own} cannot be brought to {opset}: {error}") from error
    if model.opset_imports.get("") != opset:
        raise CheckpointError(
            f"the graph's opset {own} cannot be brought to {opset}: export the checkpoint again with --opset {opset}"
        )
    return model


def _prefix_names(graph: ir.Graph) -> None:
    """Sets names of values and nodes apart from those of the graph that they come into."""
    for node in graph.all_nodes():
        node.name = f"source.{node.name}"
        for value in node.outputs:
            value.name = f"source.{value.name}"
    for name, value in list(graph.initializers.items()):
        graph.initializers.pop(name)
        value.name = f"source.{name}"
        graph.register_initializer(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the converter's notice about which converter it takes to itself."""
    logger = logging.getLogger("onnxscript.version_converter")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
