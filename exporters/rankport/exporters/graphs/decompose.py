"""Decomposition of a traced program where it stands, without the second trace that torch makes for it.

torch traces a program anew to take apart the operators that ONNX lacks, which costs more than the first trace; of a
transformer's operators it changes a handful. Owns the rules for those. A program with others goes torch's own way.
"""

import operator
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node

from rankport.exporters.temporary_attributes import temporary_attributes

_aten = torch.ops.aten

_VIEWS = {
    _aten.alias.default,
    _aten.expand.default,
    _aten.permute.default,
    _aten.select.int,
    _aten.slice.Tensor,
    _aten.split.Tensor,
    _aten.split_with_sizes.default,
    _aten.squeeze.dim,
    _aten.t.default,
    _aten.transpose.int,
    _aten.unbind.int,
    _aten.unsqueeze.default,
    _aten.view.default,
}
"""Operators that give a view, and that torch leaves as they are."""


@contextmanager
def decomposed_in_place() -> Iterator[None]:
    """Has `torch.onnx.export`, while open, take programs apart in place where the rules suffice."""
    trace_again = ExportedProgram.run_decompositions

    def run_decompositions(program: ExportedProgram, decomp_table: Any = None, *options: Any) -> Any:
        if decomp_table is None or not _suffices(program.graph_module, decomp_table):
            return trace_again(program, decomp_table, *options)
        _take_apart(program.graph)
        program.graph_module.recompile()
        return program

    with temporary_attributes(ExportedProgram, {"run_decompositions": run_decompositions}):
        yield


def _suffices(module: GraphModule, table: Container[object]) -> bool:
    """Tells whether every operator has a rule, or is one that torch would leave as it is."""
    if any(isinstance(part, GraphModule) for part in module.children()):  # a branch or a loop
        return False
    nodes = (node for node in module.graph.nodes if node.op == "call_function")
    return all(_has_rule(node) if node.target in _RULES else _stays(node.target, table) for node in nodes)


def _stays(target: object, table: Container[object]) -> bool:
    schema = getattr(target, "_schema", None)
    if schema is None:  # arithmetic of sizes
        return True
    shares_memory = any(value.alias_info is not None for value in schema.returns)
    return target not in table and not schema.is_mutable and (target in _VIEWS or not shares_memory)


def _take_apart(graph: Graph) -> None:
    for node in list(graph.nodes):
        if node.target in _RULES:
            with graph.inserting_before(node):
                _RULES[node.target](node, *node.args)
    graph.eliminate_dead_code()


def _has_rule(node: Node) -> bool:
    return node.target not in _CONDITIONS or _CONDITIONS[node.target](*node.args)


def _become(node: Node, target: Any, *arguments: Any) -> None:
    node.target, node.args, node.kwargs = target, arguments, {}


def _convert(node: Node, source: Node, *_: object) -> None:
    """Leaves only the change of type, if there is one. The program lists its outputs by name: they stay."""
    dtype = node.meta["val"].dtype
    is_output = any(user.op == "output" for user in node.users)
    if source.meta["val"].dtype == dtype and not is_output:
        node.replace_all_uses_with(source)
        node.graph.erase_node(node)
    else:
        _become(node, _aten._to_copy.default, source)
        node.kwargs = {"dtype": dtype}


def _reshape(node: Node, source: Node, sizes: Any) -> None:
    """Views a copy: not every order of elements in memory can be viewed. ONNX has no such order, and no copy."""
    copy = node.graph.call_function(
        _aten.clone.default, (source,), {"memory_format": torch.contiguous_format}
    )
    copy.meta["val"] = source.meta["val"]
    _become(node, _aten.view.default, copy, sizes)


def _flatten(node: Node, source: Node, first: int = 0, last: int = -1) -> None:
    sizes = _sizes(source)
    first, end = first % len(sizes), last % len(sizes) + 1
    _reshape(node, source, [*sizes[:first], _product(sizes[first:end]), *sizes[end:]])


def _expand_as(node: Node, source: Node, other: Node) -> None:
    _become(node, _aten.expand.default, source, _sizes(other))


def _reverse_axes(node: Node, source: Node) -> None:
    _become(node, _aten.permute.default, source, list(reversed(range(source.meta["val"].dim()))))


def _square(node: Node, source: Node) -> None:
    _become(node, _aten.pow.Tensor_Scalar, source, 2)


def _subtract_from(node: Node, source: Node, number: float, _: float = 1) -> None:
    _become(node, _aten.sub.Tensor, number, source)


def _is_unscaled(source: Node, number: float, scale: float = 1) -> bool:
    return scale == 1


def _chunk(node: Node, source: Node, chunks: int, axis: int = 0) -> None:
    _become(node, _aten.split.Tensor, source, -(-source.meta["val"].shape[axis] // chunks), axis)


def _has_fixed_size(source: Node, chunks: int, axis: int = 0) -> bool:
    return isinstance(source.meta["val"].shape[axis], int)


def _has_axes(source: Node, *_: int) -> bool:
    return len(source.meta["val"].shape) > 0


def _is_inactive(source: Node, probability: float, active: bool) -> bool:
    return not active


def _renamed(target: object) -> Callable[..., None]:
    return lambda node, *arguments: _become(node, target, *arguments)


def _add_in_place(node: Node, source: Node, other: object) -> None:
    """Lets all that read the tensor after it was written read the sum."""
    source.replace_all_uses_with(node, delete_user_cb=lambda user: user > node)
    _become(node, _aten.add.Tensor, source, other)


def _is_own(source: Node, other: object) -> bool:
    """Tells whether the tensor written is nobody else's memory: fresh, without a view, and no output, of its type."""
    written = source.target in _IN_PLACE
    if not (_is_own(*source.args[:2]) if written else _is_fresh(source)):  # type: ignore[arg-type]
        return False
    if any(user.op == "output" or _is_view(user) for user in source.users if user.target not in _IN_PLACE):
        return False
    return not isinstance(other, Node) or other.meta["val"].dtype == source.meta["val"].dtype


def _is_fresh(node: Node) -> bool:
    return node.op == "call_function" and node.target not in _RULES and not _is_view(node)


def _is_view(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is None or any(value.alias_info is not None for value in schema.returns)


def _sizes(tensor: Node) -> list[int | Node]:
    shape = enumerate(tensor.meta["val"].shape)
    return [size if isinstance(size, int) else _size(tensor, axis, size) for axis, size in shape]


def _size(tensor: Node, axis: int, size: torch.SymInt) -> Node:
    """Reads a size off the first input that has it, or off the tensor itself."""
    for node in tensor.graph.find_nodes(op="placeholder"):
        shape = [str(given) for given in getattr(node.meta.get("val"), "shape", ())]
        if str(size) in shape:
            tensor, axis = node, shape.index(str(size))
            break
    length = tensor.graph.call_function(_aten.sym_size.int, (tensor, axis))
    length.meta["val"] = size
    return length


def _product(sizes: Sequence[int | Node]) -> int | Node:
    product = sizes[0]
    for size in sizes[1:]:
        product = _times(product, size)
    return product


def _times(one: int | Node, other: int | Node) -> int | Node:
    if isinstance(one, int) and isinstance(other, int):
        return one * other
    graph = one.graph if isinstance(one, Node) else other.graph  # type: ignore[union-attr]
    product = graph.call_function(operator.mul, (one, other))
    product.meta["val"] = _value(one) * _value(other)
    return product


def _value(size: int | Node) -> Any:
    return size.meta["val"] if isinstance(size, Node) else size


_IN_PLACE = {_aten.add_.Tensor}
_RULES: dict[object, Callable[..., None]] = {
    _aten.__and__.Tensor: _renamed(_aten.bitwise_and.Tensor),
    _aten.__or__.Tensor: _renamed(_aten.bitwise_or.Tensor),
    _aten.add_.Tensor: _add_in_place,
    _aten.chunk.default: _chunk,
    _aten.contiguous.default: _convert,
    _aten.detach_.default: _convert,
    _aten.dropout.default: _convert,
    _aten.expand_as.default: _expand_as,
    _aten.flatten.using_ints: _flatten,
    _aten.max.other: _renamed(_aten.maximum.default),
    _aten.min.other: _renamed(_aten.minimum.default),
    _aten.numpy_T.default: _reverse_axes,
    _aten.reshape.default: _reshape,
    _aten.rsub.Scalar: _subtract_from,
    _aten.square.default: _square,
    _aten.to.device: _convert,
    _aten.to.dtype: _convert,
    _aten.to.dtype_layout: _convert,
}
_CONDITIONS: dict[object, Callable[..., bool]] = {
    _aten.add_.Tensor: _is_own,
    _aten.chunk.default: _has_fixed_size,
    _aten.dropout.default: _is_inactive,
    _aten.flatten.using_ints: _has_axes,
    _aten.rsub.Scalar: _is_unscaled,
}
