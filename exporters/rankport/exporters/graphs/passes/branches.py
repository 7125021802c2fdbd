"""Nodes that a pass writes: those of a branch, and the constants that all branches of a graph share."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

_Attribute = int | float | str | tuple[int, ...]


class Constants:
    """Small constants of a graph, one each however often they are asked for."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph

    def ints(self, *numbers: int) -> ir.Value:
        """Gives numbers [numbers] int64."""
        return self._named(f"ints.{'_'.join(map(str, numbers))}", np.array(numbers, np.int64))

    def number(self, number: int) -> ir.Value:
        """Gives a number [] int64."""
        return self._named(f"number.{number}", np.array(number, np.int64))

    def float(self, number: float) -> ir.Value:
        """Gives a number [] float32."""
        return self._named(f"float.{number}", np.array(number, np.float32))

    def _named(self, name: str, array: np.ndarray) -> ir.Value:
        known = self._graph.initializers.get(name)
        if known is not None:
            return known
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
        value.const_value = tensor
        self._graph.register_initializer(value)
        return value


class Branch:
    """Nodes in order, which may read any value outside; `results` are its outputs."""

    def __init__(self, constants: Constants) -> None:
        self.constants = constants
        self.nodes: list[ir.Node] = []
        self.results: list[ir.Value] = []

    def add(
        self, operator: str, *inputs: ir.Value | None, domain: str = "", **attributes: _Attribute
    ) -> ir.Value:
        """Adds a node of one output."""
        return self.several(1, operator, *inputs, domain=domain, **attributes)[0]

    def several(
        self,
        outputs: int,
        operator: str,
        *inputs: ir.Value | None,
        domain: str = "",
        **attributes: _Attribute,
    ) -> Sequence[ir.Value]:
        """Adds a node of so many outputs."""
        node = ir.node(operator, inputs, attributes, domain=domain, num_outputs=outputs)
        self.nodes.append(node)
        return node.outputs

    def split(self, value: ir.Value, sizes: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Splits the last axis in two of `sizes` [2]."""
        first, second = self.several(2, "Split", value, sizes, axis=-1)
        return first, second

    def reshape(self, value: ir.Value, *sizes: int) -> ir.Value:
        """Reshapes to known sizes, of which -1 is what is left."""
        return self.add("Reshape", value, self.constants.ints(*sizes))

    def size(self, value: ir.Value | None, axis: int) -> ir.Value:
        """Reads the size of an axis. [1]"""
        return self.add("Shape", value, start=axis, end=axis + 1)

    def shape(self, *sizes: ir.Value) -> ir.Value:
        """Puts sizes [1] behind each other. [sizes]"""
        return self.add("Concat", *sizes, axis=0)

    def graph(self, name: str) -> ir.Graph:
        """Makes the graph of a branch, whose values are named after it."""
        for place, node in enumerate(self.nodes):
            for number, output in enumerate(node.outputs):
                output.name = f"{name}.{place}.{number}"
        return ir.Graph(inputs=[], outputs=self.results, nodes=self.nodes, name=name)
