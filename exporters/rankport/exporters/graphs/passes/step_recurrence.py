"""Graph pass: recurrent layers get a second form for a step, between which each pass chooses.

requires: nodes of `rankport` that read what a layer made of any pass, tokens and the state after each prefix, and
          behind it what that was made of: `PrefixConvolution` states [1, tokens, channels], weight [channels, taps],
          perhaps a bias, and past [prefixes, channels, taps - 1]; `PrefixLinearAttention` query, key, value [1, tokens,
          heads, width], decay, perhaps beta [1, tokens, heads], and past [prefixes, heads, key width, value width]; in
          a step token n is of prefix n.
ensures:  in a step a layer is one operator of ONNX Runtime, which reads the past and writes the state; what only any
          other pass needs is not computed.
"""

from collections.abc import Callable

import onnx_ir as ir
import onnx_ir.passes.common as passes

from rankport.exporters.graphs.passes.branches import Branch, Constants
from rankport.exporters.graphs.passes.fusions.matching import made_by, put
from rankport.exporters.graphs.passes.step_attention import DOMAIN

CONVOLUTION, LINEAR_ATTENTION = "PrefixConvolution", "PrefixLinearAttention"

_GENERAL = 2
"""Inputs that are made by any pass."""


def expand_recurrences(model: ir.Model, step: ir.Value | None) -> int:
    """Rewrites every node, given what says of a pass that it is a step [1]. Returns how many."""
    nodes = [node for node in model.graph if node.domain == DOMAIN and node.op_type in _FORMS]
    if not nodes:
        return 0
    assert step is not None, "a model of recurrent layers alone"
    constants = Constants(model.graph)
    for number, node in enumerate(nodes):
        _expand(node, f"recurrence.{number}", step, constants)
    model.opset_imports.pop(DOMAIN, None)
    passes.TopologicalSortPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    return len(nodes)


def _expand(node: ir.Node, name: str, step: ir.Value, constants: Constants) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    own, general = Branch(constants), Branch(constants)
    _FORMS[node.op_type](own, node)
    general.results = [_of(value) for value in node.inputs[:_GENERAL]]
    general.nodes = _only_for(node, graph)
    graph.remove(general.nodes)
    kept = [value for value in general.results if value.producer() not in general.nodes]
    assert not kept, "a branch gives what it makes"
    choice = ir.node(
        "If",
        [step],
        {"then_branch": own.graph(f"{name}.step"), "else_branch": general.graph(f"{name}.pass")},
        num_outputs=_GENERAL,
    )
    put(choice, after=node)
    for old, new in zip(node.outputs, choice.outputs, strict=True):
        new.type, new.shape = old.type, old.shape
        new.name, old.name = old.name, f"{old.name}.before"
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _only_for(node: ir.Node, graph: ir.Graph) -> list[ir.Node]:
    """Lists, in their order, the nodes that nothing but the general form of a node needs, the node left aside."""
    found: set[ir.Node] = set()
    waiting = [value.producer() for value in node.inputs[:_GENERAL] if value is not None]
    while waiting:
        maker = waiting.pop()
        if maker is None or maker in found or maker.graph is not graph:
            continue
        uses = [use for output in maker.outputs for use in output.uses()]
        is_read = any(output.is_graph_output() for output in maker.outputs)
        if is_read or not all(use.node in found or use.node is node for use in uses):
            continue  # another reader may come to be found, and then it is looked at again
        found.add(maker)
        waiting += [value.producer() for value in maker.inputs if value is not None]
    return [made for made in graph if made in found]


def _convolution(branch: Branch, node: ir.Node) -> None:
    states, weight, bias, past = node.inputs[_GENERAL:]
    channels = _of(past).shape[1]  # type: ignore[index]
    assert isinstance(channels, int)
    mixed, state = branch.several(
        2,
        "CausalConvWithState",
        branch.reshape(_of(states), -1, channels, 1),
        _taps(branch, _of(weight), channels),
        bias,
        past,
        domain="com.microsoft",
        activation=node.attributes.get_string("activation", "none"),
    )
    branch.results = [branch.reshape(mixed, 1, -1, channels), state]


def _taps(branch: Branch, weight: ir.Value, channels: int) -> ir.Value:
    """Gives a weight [channels, taps] as the operator takes it: [channels, 1, taps]."""
    squeezed = made_by(weight, "Squeeze")
    if squeezed is not None:
        return _of(squeezed.inputs[0])
    if weight.const_value is None or weight.graph is None:
        return branch.reshape(weight, channels, 1, -1)
    array = weight.const_value.numpy()[:, None]
    taps = ir.Value(name=f"{weight.name}.taps", shape=ir.Shape(array.shape), type=weight.type)
    taps.const_value = ir.tensor(array, name=taps.name)
    weight.graph.register_initializer(taps)
    return taps


def _linear_attention(branch: Branch, node: ir.Node) -> None:
    query, key, value, decay, beta, past = node.inputs[_GENERAL:]
    heads, key_width, value_width = _of(past).shape[1:]  # type: ignore[index]
    assert isinstance(heads, int)
    assert isinstance(key_width, int)
    assert isinstance(value_width, int)
    query, key, value = (_before_reshapes(_of(part)) for part in (query, key, value))
    asking = heads
    sources = [_before_copies(part) for part in (query, key)]
    counts = {source.shape[2] for source in sources if source is not None and source.shape is not None}
    if None not in sources and len(counts) == 1 and isinstance(count := counts.pop(), int):
        # The operator has several heads of values share one of queries and keys.
        query, key = (_before_reshapes(_of(source)) for source in sources)
        asking = count
    parts = ((query, asking * key_width), (key, asking * key_width), (value, heads * value_width))
    states = [branch.reshape(_of(part), -1, 1, width) for part, width in parts]
    gates = [None if gate is None else branch.reshape(gate, -1, 1, heads) for gate in (decay, beta)]
    mixed, state = branch.several(
        2,
        "LinearAttention",
        *states,
        past,
        *(gate for gate in gates if gate is not None),
        domain="com.microsoft",
        q_num_heads=asking,
        kv_num_heads=heads,
        scale=node.attributes.get_float("scale", 1.0),
        update_rule="gated" if beta is None else "gated_delta",
    )
    branch.results = [branch.reshape(mixed, 1, -1, heads, value_width), state]


_FORMS: dict[str, Callable[[Branch, ir.Node], None]] = {
    CONVOLUTION: _convolution,
    LINEAR_ATTENTION: _linear_attention,
}


def _before_reshapes(value: ir.Value) -> ir.Value:
    """Follows reshapes back, none of which moves a number."""
    while (reshape := made_by(value, "Reshape")) is not None:
        value = _of(reshape.inputs[0])
    return value


def _before_copies(value: ir.Value) -> ir.Value | None:
    """Finds heads [1, tokens, heads, width] of which each was copied for several others; None where none was."""
    copies = made_by(value, "Expand")
    apart = None if copies is None else made_by(copies.inputs[0], "Unsqueeze")
    source = None if apart is None else apart.inputs[0]
    return source if source is not None and source.shape is not None and len(source.shape) == 4 else None


def _of(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
