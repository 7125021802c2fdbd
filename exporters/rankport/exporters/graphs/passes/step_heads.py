"""Nodes between the products of a layer and its attention: a split, norms and rotations of queries and keys.

In a step these are most of the nodes of a layer. `GroupQueryAttention` takes queries, keys and values as
one and rotates them; on a CPU it does not normalize, which is done for queries and keys at once.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from rankport.exporters.graphs.passes.fusions.matching import made_by

_NORM, _ROTATION = "SimplifiedLayerNormalization", "RotaryEmbedding"
_MOVED = frozenset({"Reshape", "Split", _NORM, _ROTATION})
_ROTATED = 16
"""Multiple that the operator wants the width of heads that it rotates to be."""

Tables = tuple[ir.Value, ir.Value]
"""Cosines and sines [tokens, head_dim / 2], a row a token of the pass."""


@dataclass(frozen=True, slots=True)
class Norms:
    """Norms of queries and keys as one."""

    weights: ir.Value  # [1, heads + kv_heads, head_dim]
    epsilon: float


@dataclass(frozen=True, slots=True)
class Heads:
    """Queries, keys and values as products gave them, and what is to become of them."""

    # One [1, tokens, (heads + 2 * kv_heads) * head_dim], or the three that make it up.
    products: tuple[ir.Value, ...]
    norms: Norms | None
    tables: Tables | None
    nodes: tuple[ir.Node, ...]  # in order: those between the products and attention that no other reads


def find_heads(attention: ir.Node, graph: ir.Graph, counts: tuple[int, int], head_dim: int) -> Heads | None:
    """Finds them for a node that has so many (query, key) heads. None where the operator cannot take what it finds."""
    query, key, value = (_side(states, head_dim) for states in attention.inputs[:3])
    heads = (counts[0], counts[1], counts[1])
    fits = all(
        side is not None and _width(side.product) == count * head_dim
        for side, count in zip((query, key, value), heads, strict=True)
    )
    if not fits or query is None or key is None or value is None or value.is_changed:
        return None
    tables = _tables((query, key), counts)
    if tables is None and (query.rotation is not None or key.rotation is not None):
        return None
    if tables is not None and head_dim % _ROTATED:
        return None
    norms = _norms((query, key), counts, head_dim, graph)
    if norms is None and (query.norm is not None or key.norm is not None):
        return None
    products = _together((query.product, key.product, value.product))
    return Heads(products, norms, tables, _between(products, attention, graph))


@dataclass(frozen=True, slots=True)
class _Side:
    """Queries, keys or values."""

    product: ir.Value
    norm: ir.Node | None
    rotation: ir.Node | None

    @property
    def is_changed(self) -> bool:
        return self.norm is not None or self.rotation is not None


def _side(states: ir.Value | None, head_dim: int) -> _Side | None:
    value = _before_reshapes(states)
    rotation = made_by(value, _ROTATION)
    if rotation is not None:
        value = _before_reshapes(rotation.inputs[0])
    norm = made_by(value, _NORM)
    if norm is not None and _width(norm.inputs[1]) == head_dim:
        value = _before_reshapes(norm.inputs[0])
    else:
        norm = None
    return None if value is None else _Side(value, norm, rotation)


def _before_reshapes(value: ir.Value | None) -> ir.Value | None:
    """Follows reshapes back, none of which moves a number, as far as the result of a product [1, tokens, width]."""
    while (reshape := made_by(value, "Reshape")) is not None:
        value = reshape.inputs[0]
    return value


def _width(value: ir.Value | None) -> int:
    """Reads the width of states [1, tokens, width] or weights [width]; 0 of what has another form."""
    shape = None if value is None else value.shape
    width = None if shape is None or len(shape) not in (1, 3) else shape[-1]
    return width if isinstance(width, int) else 0


def _tables(sides: tuple[_Side, _Side], counts: tuple[int, int]) -> Tables | None:
    """Finds the tables by which queries and keys alike are rotated."""
    found = []
    for side, heads in zip(sides, counts, strict=True):
        rotation = side.rotation
        if rotation is None or rotation.attributes.get_int("num_heads", 0) != heads:
            return None
        found.append((rotation.inputs[2], rotation.inputs[3]))
    (cos, sin), of_keys = found
    return (cos, sin) if (cos, sin) == of_keys and cos is not None and sin is not None else None


def _norms(
    sides: tuple[_Side, _Side], counts: tuple[int, int], head_dim: int, graph: ir.Graph
) -> Norms | None:
    rows, epsilons = [], set()
    for side, heads in zip(sides, counts, strict=True):
        weight = None if side.norm is None else side.norm.inputs[1]
        if side.norm is None or weight is None or weight.const_value is None:
            return None
        rows.append(np.broadcast_to(weight.const_value.numpy(), (heads, head_dim)))
        epsilons.add(side.norm.attributes.get_float("epsilon", 0.0))
    if len(epsilons) > 1:
        return None
    array, name = np.concatenate(rows)[None], f"{sides[0].product.name}.norms"
    weights = ir.Value(name=name, shape=ir.Shape(array.shape))
    weights.const_value = tensor = ir.tensor(array, name=name)
    weights.type = ir.TensorType(tensor.dtype)
    graph.register_initializer(weights)
    return Norms(weights, *epsilons)


def _together(products: tuple[ir.Value, ...]) -> tuple[ir.Value, ...]:
    """Gives what all three are split of, if they are."""
    split = made_by(products[0], "Split")
    if (
        split is None
        or tuple(split.outputs) != products
        or split.attributes.get_int("axis", 0) not in (-1, 2)
    ):
        return products
    source = split.inputs[0]
    assert source is not None
    return (source,)


def _between(products: tuple[ir.Value, ...], attention: ir.Node, graph: ir.Graph) -> tuple[ir.Node, ...]:
    found = {attention}
    waiting = list(attention.inputs[:3])
    while waiting:
        value = waiting.pop()
        node = None if value is None or value in products else value.producer()
        if node is None or node in found or node.op_type not in _MOVED or not _only_for(found, node):
            continue
        found.add(node)
        waiting.append(node.inputs[0])  # others are weights, and tables that other forms read too
    return tuple(node for node in graph if node in found and node is not attention)


def _only_for(readers: set[ir.Node], node: ir.Node) -> bool:
    return all(reader in readers for output in node.outputs for reader in output.consumers()) and not any(
        output.is_graph_output() for output in node.outputs
    )
