"""Graph pass: rows of ids are gathered in the graph, from blocks in the type of their files.

requires: a graph of a ranker of sets whose input `values` has all features of a side, in the order of the schema.
ensures:  `values` has those without ids alone, and is gone where there are none; `places` [rows, ids] says which row of
          its table's block each id is. A row is dequantized in fp32 behind its gather, to the bits that a host gives.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.runtime.backends.layouts.sets import scales_input, table_input
from rankport.runtime.bundle.sections.sets import IdFeature, RowType, SetFeature, SetSchema

_TYPES: dict[RowType, ir.DataType] = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "int8": ir.DataType.INT8,
}


def gather_ids(
    model: ir.Model,
    values: str,
    places: str,
    schema: SetSchema,
    features: Sequence[SetFeature],
    dtype: RowType,
) -> None:
    """Rewrites the graph; one without ids, or that reads no features, is left as it is."""
    graph = model.graph
    given = next((value for value in graph.inputs if value.name == values), None)
    if given is None or not any(isinstance(feature, IdFeature) for feature in features):
        return
    _Gathering(graph, given, places, schema, dtype).rewrite(features)
    passes.TopologicalSortPass()(model)


class _Gathering:
    def __init__(
        self, graph: ir.Graph, given: ir.Value, places: str, schema: SetSchema, dtype: RowType
    ) -> None:
        assert given.shape is not None
        assert given.name is not None
        self._graph, self._given, self._schema, self._dtype = graph, given, schema, dtype
        self._axis = given.shape[0]
        self._places = ir.Value(name=places, type=ir.TensorType(ir.DataType.INT32))
        self._blocks: dict[str, ir.Value] = {}

    def rewrite(self, features: Sequence[SetFeature]) -> None:
        schema, given = self._schema, self._given
        readers = list(given.uses())
        parts, start, column = [], 0, 0
        for feature in features:
            if isinstance(feature, IdFeature):
                parts.append(self._row(feature.table, column))
                column += 1
                continue
            end = start + schema.width_of(feature)
            parts.append(self._node("Slice", given, *(self._number([at]) for at in (start, end, 1))))
            start = end
        joined = parts[0] if len(parts) == 1 else self._node("Concat", *parts, axis=1)
        for node, place in readers:
            node.replace_input_with(place, joined)
        if start:
            given.shape = ir.Shape([self._axis, start])
        else:
            self._graph.inputs.remove(given)
        self._places.shape = ir.Shape([self._axis, column])
        self._graph.inputs.extend([self._places, *self._blocks.values()])

    def _row(self, table: str, column: int) -> ir.Value:
        """Dequantizes the rows of one feature. [rows, width]"""
        place = self._node("Gather", self._places, self._number(column), axis=1)
        place.type = ir.TensorType(ir.DataType.INT32)
        width = self._schema.tables[table].width
        rows = self._node("Gather", self._block(table_input(table), table, width, _TYPES[self._dtype]), place)
        if self._dtype == "float32":
            return rows
        rows.type = ir.TensorType(_TYPES[self._dtype])
        wide = self._node("Cast", rows, to=int(ir.DataType.FLOAT))
        if self._dtype != "int8":
            return wide
        scales = self._block(scales_input(table), table, 1, ir.DataType.FLOAT)
        return self._node("Mul", wide, self._node("Gather", scales, place))

    def _block(self, name: str, table: str, width: int, dtype: ir.DataType) -> ir.Value:
        if name not in self._blocks:
            shape = ir.Shape([f"rows.{table}", width])
            self._blocks[name] = ir.Value(name=name, shape=shape, type=ir.TensorType(dtype))
        return self._blocks[name]

    def _number(self, value: int | list[int]) -> ir.Value:
        """Gives a constant, the same to all that ask for it."""
        name = f"features.{value}" if isinstance(value, int) else f"features.{value[0]}.list"
        if name not in self._graph.initializers:
            self._graph.register_initializer(ir.val(name, const_value=ir.tensor(np.array(value), name=name)))
        return self._graph.initializers[name]

    def _node(self, op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        """Puts a node of fp32 in front."""
        node = ir.node(op_type, list(inputs), attributes)
        self._graph.insert_before(self._graph[0], node)
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        return node.outputs[0]
