"""Graph pass: attention that was traced whole becomes nodes, of two forms between which each pass chooses.

requires: nodes `rankport.PrefixAttention` over queries [1, tokens, heads, head_dim], keys and values [1, tokens,
          kv_heads, head_dim], past keys and values [prefixes, kv_heads, past, head_dim], slots [prefixes, items,
          item_tokens], token_slots [tokens], past_lengths [prefixes] and perhaps sinks [heads]: the maths of
          `decoders.packed_attention`.
ensures:  where every prefix has one token, nothing is gathered and nothing exchanged; else tokens are laid out by slot,
          attend, and are packed again.
          Where `GroupQueryAttention` can do it for all layers, the graph gets the input in_place [1]. At 1 every prefix
          has one token, its past has room behind past_lengths, and the outputs of KV are the past with the token in it:
          bound to the memory of the past, nothing else is written. At 0 outputs are the KV of the pass's tokens.
          The operator takes queries, keys and values as the products before give them where it can: see `step_heads`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.branches import Branch, Constants
from rankport.exporters.graphs.passes.fusions.matching import made_by, put
from rankport.exporters.graphs.passes.step_forms import (
    BySlot,
    InPlace,
    Layer,
    Pass,
    Within,
    one_token_each,
    token_in_place,
)
from rankport.exporters.graphs.passes.step_heads import find_heads

DOMAIN, OPERATOR = "rankport", "PrefixAttention"
IN_PLACE = "in_place"

_SINKS = 8
_HIDDEN = float(np.finfo(np.float32).min)


def expand_attention(model: ir.Model) -> ir.Value | None:
    """Rewrites every node. Returns what says of a pass that it is a step [1]; None where there is no such node."""
    nodes = [node for node in model.graph if (node.domain, node.op_type) == (DOMAIN, OPERATOR)]
    if not nodes:
        return None
    constants = Constants(model.graph)
    layers = [_layer(node) for node in nodes]
    if in_place := _can_write_in_place(layers):
        layers = [_with_heads(layer, node, model.graph) for layer, node in zip(layers, nodes, strict=True)]
    windows = sorted({layer.window for layer in layers if layer.window})
    shared = _shared(model.graph, nodes[0], constants, layers if in_place else (), windows)
    for node, layer in zip(nodes, layers, strict=True):
        _expand(node, layer, shared, constants)
    model.opset_imports.pop(DOMAIN, None)
    passes.TopologicalSortPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    return shared.step


def _can_write_in_place(layers: Sequence[Layer]) -> bool:
    """Says whether the operator takes every layer: heads of a multiple of 8."""
    return all(layer.head_dim % 8 == 0 for layer in layers)


def _with_heads(layer: Layer, node: ir.Node, graph: ir.Graph) -> Layer:
    counts = layer.heads, layer.kv_heads
    return replace(layer, made_of=find_heads(node, graph, counts, layer.head_dim))


def _shared(
    graph: ir.Graph, node: ir.Node, constants: Constants, in_place: Sequence[Layer], windows: Sequence[int]
) -> Pass:
    """Makes what all layers share, of which those that write `in_place` may need more, and those with windows do."""
    past_key, slots, token_slots, past_lengths = (node.inputs[place] for place in (3, 5, 6, 7))
    assert slots is not None
    top = Branch(constants)
    prefixes, items, length = (top.size(slots, axis) for axis in range(3))
    past, tokens = top.size(past_key, 2), top.size(token_slots, 0)
    rows = top.add("Mul", items, length)
    if in_place:
        step = top.add("Equal", _asked_in_place(graph), constants.ints(1))
    else:
        step = top.add("And", top.add("Equal", rows, constants.ints(1)), top.add("Equal", tokens, prefixes))
    places = _places(top, past)
    exists = top.add("Less", places, top.add("Unsqueeze", past_lengths, constants.ints(1)))
    own = _places(top, length)
    later = top.add("LessOrEqual", own, top.add("Unsqueeze", own, constants.ints(1)))
    shared = Pass(
        step=step,
        in_place=_in_place(top, _of(past_lengths), prefixes, in_place, windows) if in_place else None,
        slots=top.add("Reshape", slots, constants.ints(-1)),
        token_slots=_of(token_slots),
        prefixes=prefixes,
        items=items,
        length=length,
        rows=rows,
        parts=top.add("Concat", past, length, axis=0),
        past_mask=top.add("Unsqueeze", _mask(top, exists), constants.ints(1, 2)),
        own_mask=top.add("Unsqueeze", _mask(top, later), constants.ints(1)),
        within={
            window: _within(top, window, (places, exists), (own, later), _of(past_lengths))
            for window in windows
        },
    )
    for made in reversed(top.nodes):
        graph.insert_before(graph[0], made)
    return shared


def _asked_in_place(graph: ir.Graph) -> ir.Value:
    asked = ir.Value(name=IN_PLACE, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    graph.inputs.append(asked)
    return asked


def _within(
    top: Branch,
    window: int,
    past: tuple[ir.Value, ir.Value],
    own: tuple[ir.Value, ir.Value],
    past_lengths: ir.Value,
) -> Within:
    """Makes the masks of a window; `past` and `own` are places [size] and what is seen of them without one."""
    constants, (places, exists), (tokens, causal) = top.constants, past, own
    of_own = _near(top, window, top.add("Unsqueeze", tokens, constants.ints(1)), tokens)
    counted = top.add("Add", top.add("Unsqueeze", past_lengths, constants.ints(1)), tokens)
    of_past = _near(top, window, top.add("Unsqueeze", counted, constants.ints(2)), places)
    of_past = top.add("And", of_past, top.add("Unsqueeze", exists, constants.ints(1)))
    return Within(
        past_mask=top.add("Unsqueeze", _mask(top, of_past), constants.ints(1, 2, 4)),
        own_mask=top.add("Unsqueeze", _mask(top, top.add("And", of_own, causal)), constants.ints(1)),
    )


def _near(top: Branch, window: int, queries: ir.Value, keys: ir.Value) -> ir.Value:
    """Says which keys are no farther back than a window from which queries, by the places of both."""
    return top.add("Greater", keys, top.add("Sub", queries, top.constants.ints(window)))


def _in_place(
    top: Branch, past_lengths: ir.Value, prefixes: ir.Value, layers: Sequence[Layer], windows: Sequence[int]
) -> InPlace:
    constants = top.constants
    before = top.add("Cast", past_lengths, to=ir.DataType.INT32)
    counted = top.add("Add", past_lengths, constants.ints(1))
    longest = top.add("ReduceMax", counted, constants.ints(0), keepdims=1)
    # The operator takes tables for those of all places of a text, and wants as many rows.
    pads = top.add("Concat", constants.ints(0, 0), longest, constants.ints(0), axis=0)
    tables = [table for layer in layers if layer.made_of for table in layer.made_of.tables or ()]
    return InPlace(
        before,
        top.add("Cast", longest, to=ir.DataType.INT32),
        rows=top.add("Unsqueeze", _places(top, prefixes), constants.ints(1)),
        tables={table: top.add("Pad", table, pads) for table in dict.fromkeys(tables)},
        biases={window: _bias(top, window, past_lengths, longest) for window in windows},
    )


def _bias(top: Branch, window: int, past_lengths: ir.Value, longest: ir.Value) -> ir.Value:
    """Hides from a token behind each past what is farther back than a window. [prefixes, 1, 1, longest]"""
    near = _near(
        top, window, top.add("Unsqueeze", past_lengths, top.constants.ints(1)), _places(top, longest)
    )
    return top.add("Unsqueeze", _mask(top, near), top.constants.ints(1, 2))


def _places(top: Branch, size: ir.Value) -> ir.Value:
    """Counts up to a size. [size]"""
    constants = top.constants
    return top.add("Range", constants.number(0), top.add("Squeeze", size), constants.number(1))


def _mask(top: Branch, seen: ir.Value) -> ir.Value:
    return top.add("Where", seen, top.constants.float(0.0), top.constants.float(_HIDDEN))


def _expand(node: ir.Node, layer: Layer, shared: Pass, constants: Constants) -> None:
    name = node.outputs[1].name
    if shared.in_place is None:
        step = one_token_each(layer, constants, shared)
    else:
        step = token_in_place(layer, constants, shared.in_place)
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    if layer.made_of is not None:
        graph.remove(layer.made_of.nodes)
    choice = ir.node(
        "If",
        [shared.step],
        {
            "then_branch": step.graph(f"{name}.step"),
            "else_branch": BySlot(layer, constants, shared).branch().graph(f"{name}.pass"),
        },
        num_outputs=3,
    )
    put(choice, after=node)
    for old, new in zip(node.outputs, choice.outputs, strict=True):
        new.type, new.shape = old.type, old.shape
        new.name, old.name = old.name, f"{old.name}.before"
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    choice.outputs[0].shape = None
    graph.remove(node, safe=True)
    _skip_reshape(choice.outputs[0], layer.heads * layer.head_dim)


def _layer(node: ir.Node) -> Layer:
    return Layer(
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
        window=node.attributes.get_int("window", 0),
        sinks=node.inputs[_SINKS] if len(node.inputs) > _SINKS else None,
    )


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
