"""Graph pass: attention that was traced whole becomes nodes, of two forms between which each pass chooses.

requires: nodes `rankport.PrefixAttention` over queries [1, tokens, heads, head_dim], keys and values [1, tokens,
          kv_heads, head_dim], past keys and values [prefixes, kv_heads, past, head_dim], slots [prefixes, items,
          item_tokens], token_slots [tokens] and past_lengths [prefixes]: the maths of `decoders.packed_attention`.
ensures:  where every prefix has one token, nothing is gathered and nothing exchanged; else tokens are laid out by slot,
          attend, and are packed again.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.branches import Branch, Constants
from rankport.exporters.graphs.passes.fusions.matching import made_by, put

DOMAIN, OPERATOR = "rankport", "PrefixAttention"

_BY_HEAD = (0, 2, 1, 3)
_HIDDEN = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One node of attention."""

    query: ir.Value  # [1, tokens, ...]
    key: ir.Value
    value: ir.Value
    past_key: ir.Value
    past_value: ir.Value
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    softcap: float

    @property
    def group(self) -> int:
        """Query heads that share a key."""
        return self.heads // self.kv_heads


@dataclass(frozen=True, slots=True)
class _Pass:
    """Values that all layers share."""

    step: ir.Value  # [1] bool: every prefix has one token
    slots: ir.Value  # [prefixes * items * item_tokens]
    token_slots: ir.Value
    prefixes: ir.Value  # [1] each
    items: ir.Value
    length: ir.Value
    rows: ir.Value  # items * length
    parts: ir.Value  # [2]: past, length
    past_mask: ir.Value  # [prefixes, 1, 1, past]
    own_mask: ir.Value  # [length, 1, length]


def expand_attention(model: ir.Model) -> int:
    """Rewrites every node. Returns how many."""
    nodes = [node for node in model.graph if (node.domain, node.op_type) == (DOMAIN, OPERATOR)]
    if not nodes:
        return 0
    constants = Constants(model.graph)
    shared = _shared(model.graph, nodes[0], constants)
    for node in nodes:
        _expand(node, shared, constants)
    model.opset_imports.pop(DOMAIN, None)
    passes.TopologicalSortPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    return len(nodes)


def _shared(graph: ir.Graph, node: ir.Node, constants: Constants) -> _Pass:
    past_key, slots, token_slots, past_lengths = (node.inputs[place] for place in (3, 5, 6, 7))
    assert slots is not None
    top = Branch(constants)
    prefixes, items, length = (top.size(slots, axis) for axis in range(3))
    past, tokens = top.size(past_key, 2), top.size(token_slots, 0)
    rows = top.add("Mul", items, length)
    step = top.add("And", top.add("Equal", rows, constants.ints(1)), top.add("Equal", tokens, prefixes))
    places = _places(top, past)
    exists = top.add("Less", places, top.add("Unsqueeze", past_lengths, constants.ints(1)))
    own = _places(top, length)
    later = top.add("LessOrEqual", own, top.add("Unsqueeze", own, constants.ints(1)))
    shared = _Pass(
        step=step,
        slots=top.add("Reshape", slots, constants.ints(-1)),
        token_slots=_of(token_slots),
        prefixes=prefixes,
        items=items,
        length=length,
        rows=rows,
        parts=top.add("Concat", past, length, axis=0),
        past_mask=top.add("Unsqueeze", _mask(top, exists), constants.ints(1, 2)),
        own_mask=top.add("Unsqueeze", _mask(top, later), constants.ints(1)),
    )
    for made in reversed(top.nodes):
        graph.insert_before(graph[0], made)
    return shared


def _places(top: Branch, size: ir.Value) -> ir.Value:
    """Counts up to a size. [size]"""
    constants = top.constants
    return top.add("Range", constants.number(0), top.add("Squeeze", size), constants.number(1))


def _mask(top: Branch, seen: ir.Value) -> ir.Value:
    return top.add("Where", seen, top.constants.float(0.0), top.constants.float(_HIDDEN))


def _expand(node: ir.Node, shared: _Pass, constants: Constants) -> None:
    layer = _layer(node)
    name = node.outputs[1].name
    choice = ir.node(
        "If",
        [shared.step],
        {
            "then_branch": _one_token_each(layer, constants, shared).graph(f"{name}.step"),
            "else_branch": _BySlot(layer, constants, shared).branch().graph(f"{name}.pass"),
        },
        num_outputs=3,
    )
    put(choice, after=node)
    for old, new in zip(node.outputs, choice.outputs, strict=True):
        new.type, new.shape = old.type, old.shape
        new.name, old.name = old.name, f"{old.name}.before"
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    choice.outputs[0].shape = None
    _skip_reshape(choice.outputs[0], layer.heads * layer.head_dim)


def _layer(node: ir.Node) -> _Layer:
    return _Layer(
        query=_before_reshape(node.inputs[0]),
        key=_before_reshape(node.inputs[1]),
        value=_before_reshape(node.inputs[2]),
        past_key=_of(node.inputs[3]),
        past_value=_of(node.inputs[4]),
        heads=node.attributes.get_int("heads", 0),
        kv_heads=node.attributes.get_int("kv_heads", 0),
        head_dim=node.attributes.get_int("head_dim", 0),
        scale=node.attributes.get_float("scale", 1.0),
        softcap=node.attributes.get_float("softcap", 0.0),
    )


def _one_token_each(layer: _Layer, constants: Constants, shared: _Pass) -> Branch:
    """Attends with a token of every prefix."""
    branch, kv_heads, dim = Branch(constants), layer.kv_heads, layer.head_dim
    query = branch.reshape(layer.query, -1, kv_heads, layer.group, dim)
    key = branch.reshape(layer.key, -1, kv_heads, 1, dim)
    value = branch.reshape(layer.value, -1, kv_heads, 1, dim)
    to_past = branch.add("Add", _scores(branch, layer, query, layer.past_key), shared.past_mask)
    both = branch.add("Concat", to_past, _scores(branch, layer, query, key), axis=-1)
    of_past, of_own = branch.split(branch.add("Softmax", both, axis=-1), shared.parts)
    mixed = branch.add(
        "Add", branch.add("MatMul", of_past, layer.past_value), branch.add("Mul", of_own, value)
    )
    branch.results = [branch.reshape(mixed, 1, -1, layer.heads * dim), key, value]
    return branch


class _BySlot:
    """Attention of whatever tokens there are: as `PackedPrefix.attend`, but for the order of rows in a group."""

    def __init__(self, layer: _Layer, constants: Constants, shared: _Pass) -> None:
        self._layer, self._shared, self._branch = layer, shared, Branch(constants)
        self._heads, self._groups, self._width = (
            constants.ints(number) for number in (layer.kv_heads, layer.group, layer.head_dim)
        )

    def branch(self) -> Branch:
        """Makes the nodes."""
        branch, layer, shared = self._branch, self._layer, self._shared
        query = self._by_prefix(self._laid_out(layer.query, layer.group * layer.head_dim), self._width)
        key, value = (self._laid_out(states, layer.head_dim) for states in (layer.key, layer.value))
        both = branch.add("Concat", self._to_past(query), self._to_own(query, key), axis=-1)
        of_past, of_own = branch.split(branch.add("Softmax", both, axis=-1), shared.parts)
        own = branch.add("MatMul", self._by_item(of_own, shared.length), self._by_item(value, self._width))
        past = branch.add("MatMul", of_past, layer.past_value)
        mixed = branch.add("Add", past, self._by_prefix(own, self._width))
        branch.results = [self._packed(mixed), key, value]
        return branch

    def _to_past(self, query: ir.Value) -> ir.Value:
        scores = _scores(self._branch, self._layer, query, self._layer.past_key)
        return self._branch.add("Add", scores, self._shared.past_mask)

    def _to_own(self, query: ir.Value, key: ir.Value) -> ir.Value:
        branch, shared = self._branch, self._shared
        by_item = (self._by_item(states, self._width) for states in (query, key))
        scores = _scores(branch, self._layer, *by_item)
        shape = (shared.prefixes, self._heads, shared.items, shared.length, self._groups, shared.length)
        masked = branch.add("Add", branch.add("Reshape", scores, branch.shape(*shape)), shared.own_mask)
        return self._by_prefix(masked, shared.length)

    def _laid_out(self, states: ir.Value, width: int) -> ir.Value:
        """[prefixes, kv_heads, items * item_tokens, width]"""
        branch, shared = self._branch, self._shared
        gathered = branch.add("Gather", states, shared.slots, axis=1)
        shape = branch.shape(shared.prefixes, shared.rows, self._heads, branch.constants.ints(width))
        return branch.add("Transpose", branch.add("Reshape", gathered, shape), perm=_BY_HEAD)

    def _by_item(self, states: ir.Value, last: ir.Value) -> ir.Value:
        """[prefixes, kv_heads, items, -1, last]"""
        branch, shared = self._branch, self._shared
        shape = (shared.prefixes, self._heads, shared.items, branch.constants.ints(-1), last)
        return branch.add("Reshape", states, branch.shape(*shape))

    def _by_prefix(self, states: ir.Value, last: ir.Value) -> ir.Value:
        """[prefixes, kv_heads, items * item_tokens * group, last]"""
        branch, shared = self._branch, self._shared
        rows = branch.add("Mul", shared.rows, self._groups)
        return branch.add("Reshape", states, branch.shape(shared.prefixes, self._heads, rows, last))

    def _packed(self, mixed: ir.Value) -> ir.Value:
        """[1, tokens, heads * head_dim]"""
        branch, layer, shared = self._branch, self._layer, self._shared
        width = branch.constants.ints(layer.group * layer.head_dim)
        by_row = branch.add("Reshape", mixed, branch.shape(shared.prefixes, self._heads, shared.rows, width))
        by_token = branch.add("Transpose", by_row, perm=_BY_HEAD)
        flat = branch.reshape(by_token, 1, -1, layer.heads * layer.head_dim)
        return branch.add("Gather", flat, shared.token_slots, axis=1)


def _scores(branch: Branch, layer: _Layer, query: ir.Value, key: ir.Value) -> ir.Value:
    scores = branch.add("FusedMatMul", query, key, transB=1, alpha=layer.scale, domain="com.microsoft")
    if not layer.softcap:
        return scores
    cap = branch.constants.float(layer.softcap)
    return branch.add("Mul", branch.add("Tanh", branch.add("Div", scores, cap)), cap)


def _before_reshape(states: ir.Value | None) -> ir.Value:
    """Finds [1, tokens, heads * head_dim] behind [1, tokens, heads, head_dim], or gives the latter."""
    reshape = made_by(states, "Reshape")
    source = None if reshape is None else reshape.inputs[0]
    flat = source is not None and source.shape is not None and len(source.shape) == 3
    return _of(source if flat else states)


def _skip_reshape(mixed: ir.Value, width: int) -> None:
    """Has what reads the result as [1, tokens, width] read it as it comes out of the branches."""
    for reader in list(mixed.consumers()):
        shape = reader.outputs[0].shape if reader.op_type == "Reshape" else None
        if shape is not None and len(shape) == 3 and shape[-1] == width:
            reader.outputs[0].replace_all_uses_with(mixed)


def _of(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
