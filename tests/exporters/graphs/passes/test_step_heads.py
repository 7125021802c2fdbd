"""A step has the operator do what lies before attention where it can, to the numbers of the nodes of before."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from rankport.exporters.graphs.passes.step_attention import DOMAIN, OPERATOR, expand_attention
from rankport.exporters.kinds.decoders.packed_attention import PackedPrefix
from rankport.exporters.kinds.decoders.shared_prefix import Scoring

HEADS, KV_HEADS, DIM, SCALE, EPSILON = 4, 2, 16, 0.3, 1e-3
COUNTS = (HEADS, KV_HEADS, KV_HEADS)
WEIGHTS = [np.linspace(0.5, 2, DIM, dtype=np.float32), np.linspace(3, 1, DIM, dtype=np.float32)]
INTEGERS = ("slots", "token_slots", "past_lengths")
LENGTHS = [[5, 1, 3], [0], [0, 4]]  # of the past of each prefix of a step
ROOM = 4


class Layer:
    """A layer in front of attention, as the passes before leave it."""

    def __init__(self, joined: bool, norms: bool, rotates: tuple[bool, bool], dim: int) -> None:
        self.joined, self.norms, self.rotates, self.dim = joined, norms, rotates, dim
        self.inputs = {
            name: value(name, [1, "tokens", count * dim], ir.DataType.FLOAT)
            for name, count in self.products()
        }
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []
        self.tables: dict[str, ir.Value] = {}

    def products(self) -> list[tuple[str, int]]:
        if self.joined:
            return [("joined", sum(COUNTS))]
        return list(zip(("query", "key", "value"), COUNTS, strict=True))

    def parts(self) -> list[ir.Value]:
        """Queries, keys and values [1, tokens, heads, dim]."""
        parts = list(self.inputs.values())
        if self.joined:
            sizes = self.constant("sizes", np.array(COUNTS) * self.dim)
            parts = list(self.add("Split", parts[0], sizes, axis=-1, outputs=3))
            for part, count in zip(parts, COUNTS, strict=True):
                part.shape = ir.Shape([1, "tokens", count * self.dim])
        return [self.head(place, part) for place, part in enumerate(parts)]

    def head(self, place: int, part: ir.Value) -> ir.Value:
        count = COUNTS[place]
        by_head = self.constant(f"by_head.{place}", np.array([0, 0, count, self.dim]))
        flat = self.constant(f"flat.{place}", np.array([0, 0, count * self.dim]))
        states = self.add("Reshape", part, by_head)[0]
        if self.norms and place < 2:
            weight = self.constant(f"weight.{place}", WEIGHTS[place][: self.dim])
            states = self.add("SimplifiedLayerNormalization", states, weight, epsilon=EPSILON)[0]
        if place < 2 and self.rotates[place]:
            start = self.constant(f"start.{place}", np.zeros(1, np.int64))
            tables = [self.table(name) for name in ("cos", "sin")]
            states = self.add("Reshape", states, flat)[0]
            states = self.add(
                "RotaryEmbedding", states, start, *tables, num_heads=count, domain="com.microsoft"
            )[0]
            states = self.add("Reshape", states, by_head)[0]
        return states

    def table(self, name: str) -> ir.Value:
        """[tokens, dim / 2] of an input, made by a node as those of models are."""
        if name not in self.tables:
            self.inputs[name] = value(name, [1, "tokens", self.dim // 2], ir.DataType.FLOAT)
            by_token = self.constant(f"by_token.{name}", np.array([-1, self.dim // 2]))
            self.tables[name] = self.add("Reshape", self.inputs[name], by_token)[0]
        return self.tables[name]

    def constant(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        constant = value(name, list(array.shape), ir.tensor(array).dtype)
        constant.const_value = ir.tensor(array, name=name)
        self.constants.append(constant)
        return constant

    def add(
        self, operator: str, *inputs: ir.Value, outputs: int = 1, domain: str = "", **attributes: int | float
    ) -> tuple[ir.Value, ...]:
        node = ir.node(operator, inputs, attributes, num_outputs=outputs, domain=domain)
        self.nodes.append(node)
        return tuple(node.outputs)

    def model(self) -> ir.Model:
        parts = self.parts()
        kv = {name: value(name, ["prefixes", KV_HEADS, "past", self.dim], ir.DataType.FLOAT) for name in PAST}
        integers = {
            name: value(name, shape, ir.DataType.INT64)
            for name, shape in (
                ("slots", ["prefixes", "items", "item_tokens"]),
                ("token_slots", ["tokens"]),
                ("past_lengths", ["prefixes"]),
            )
        }
        self.inputs |= kv | integers
        outputs = self.add(
            OPERATOR,
            *parts,
            *kv.values(),
            *integers.values(),
            outputs=3,
            domain=DOMAIN,
            heads=HEADS,
            kv_heads=KV_HEADS,
            head_dim=self.dim,
            scale=SCALE,
            softcap=0.0,
        )
        for output, name in zip(outputs, ("mixed", "new_key", "new_value"), strict=True):
            output.name, output.type = name, ir.TensorType(ir.DataType.FLOAT)
        graph = ir.Graph(
            list(self.inputs.values()),
            outputs,
            nodes=self.nodes,
            initializers=self.constants,
            opset_imports={"": 21, "com.microsoft": 1},
        )
        model = ir.Model(graph, ir_version=10)
        assert expand_attention(model) is not None
        return model


PAST = ("past_key", "past_value")


def value(name: str, shape: list[str | int], dtype: ir.DataType) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def operators(model: ir.Model, branch: str) -> Counter[str]:
    (choice,) = (node for node in model.graph if node.op_type == "If")
    return Counter(node.op_type for node in choice.attributes[branch].as_graph())


def given(layer: Layer, slots: list[list[list[int]]], lengths: list[int], tokens: int) -> dict[str, NDArray]:
    random = np.random.default_rng(tokens)
    angles = random.uniform(-3, 3, (1, tokens, layer.dim // 2)).astype(np.float32)
    # Tables of a scaled rotation: longer than one.
    arrays: dict[str, NDArray] = {"cos": 1.2 * np.cos(angles), "sin": 1.2 * np.sin(angles)}
    for name, count in zip(("query", "key", "value"), COUNTS, strict=True):
        arrays[name] = random.standard_normal((1, tokens, count * layer.dim)).astype(np.float32)
    arrays["joined"] = np.concatenate([arrays[name] for name in ("query", "key", "value")], axis=-1)
    for name in PAST:
        shape = (len(lengths), KV_HEADS, max(lengths), layer.dim)
        arrays[name] = random.standard_normal(shape).astype(np.float32)
    arrays["slots"] = np.array(slots)
    flat = arrays["slots"].reshape(-1)
    arrays["token_slots"] = np.array([list(flat).index(token) for token in range(tokens)])
    arrays["past_lengths"] = np.array(lengths)
    return arrays


def expected(layer: Layer, arrays: dict[str, NDArray]) -> list[NDArray[np.float32]]:
    states = []
    for place, (name, count) in enumerate(zip(("query", "key", "value"), COUNTS, strict=True)):
        part = arrays[name].reshape(1, -1, count, layer.dim)
        if layer.norms and place < 2:
            root = np.sqrt((part**2).mean(-1, keepdims=True) + EPSILON)
            part = part / root * WEIGHTS[place][: layer.dim]
        if place < 2 and layer.rotates[place]:
            cos, sin = (np.tile(arrays[table], 2)[0][:, None] for table in ("cos", "sin"))
            turned = np.concatenate([-part[..., layer.dim // 2 :], part[..., : layer.dim // 2]], -1)
            part = part * cos + turned * sin
        states.append(torch.from_numpy(part.astype(np.float32)).transpose(1, 2))
    slots, token_slots, lengths = (torch.from_numpy(arrays[name]) for name in INTEGERS)
    past = [torch.from_numpy(arrays[name]) for name in PAST]
    prefix = PackedPrefix(slots, token_slots, lengths, past)
    prefix.place(0, *states[1:])
    mixed, (key, value) = prefix.attend(0, *states, Scoring(SCALE))
    return [mixed.flatten(2).numpy(), key.numpy(), value.numpy()]


def ran(model: ir.Model, arrays: dict[str, NDArray], in_place: int) -> list[NDArray[np.float32]]:
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    asked = {"in_place": np.array([in_place])} | arrays
    results: list[NDArray[np.float32]] = session.run(
        None, {each.name: asked[each.name] for each in session.get_inputs()}
    )
    return results


def check_step(layer: Layer, model: ir.Model, lengths: list[int]) -> None:
    count = len(lengths)
    arrays = given(layer, [[[token]] for token in range(count)], lengths, count)
    room = {
        name: np.concatenate([arrays[name], np.zeros((count, KV_HEADS, ROOM, layer.dim), np.float32)], axis=2)
        for name in PAST
    }
    mixed, *new = ran(model, arrays | room, 1)
    right, *token = expected(layer, arrays)
    np.testing.assert_allclose(mixed, right, atol=1e-5, err_msg=str(lengths))
    for written, of_token in zip(new, token, strict=True):
        np.testing.assert_allclose(written[range(count), :, lengths], of_token[:, :, 0], atol=1e-5)


def check(layer: Layer, model: ir.Model) -> None:
    for lengths in LENGTHS:
        check_step(layer, model, lengths)
    arrays = given(layer, [[[0, 1], [2, 2]], [[3, 4], [5, 5]]], [4, 2], 6)
    for result, right in zip(ran(model, arrays, 0), expected(layer, arrays), strict=True):
        np.testing.assert_allclose(result, right, atol=1e-5)


@pytest.mark.parametrize("rotates", [True, False], ids=["rotated", "not rotated"])
@pytest.mark.parametrize("norms", [True, False], ids=["normed", "not normed"])
@pytest.mark.parametrize("joined", [True, False], ids=["one product", "three products"])
def test_the_operator_takes_what_products_give(joined: bool, norms: bool, rotates: bool) -> None:
    layer = Layer(joined, norms, (rotates, rotates), DIM)
    model = layer.model()
    step = operators(model, "then_branch")
    assert step == Counter(
        {"GroupQueryAttention": 1, "Reshape": 2 + norms, "Concat": norms + (not joined)}
        | ({"SimplifiedLayerNormalization": 1, "Split": 1} if norms else {})
    ) - Counter({"Concat": 0})
    outside = {node.op_type for node in model.graph}
    assert not outside & {"Split", "RotaryEmbedding", "SimplifiedLayerNormalization"}
    assert operators(model, "else_branch")["RotaryEmbedding"] == 2 * rotates
    check(layer, model)


@pytest.mark.parametrize(
    ("rotates", "dim"),
    [
        pytest.param((True, True), 8, id="heads that it does not rotate"),
        pytest.param((True, False), DIM, id="queries alone are rotated"),
        pytest.param((False, True), DIM, id="keys alone are rotated"),
    ],
)
def test_what_the_operator_does_not_take_stays_before_it(rotates: tuple[bool, bool], dim: int) -> None:
    layer = Layer(True, True, rotates, dim)
    model = layer.model()
    assert operators(model, "then_branch") == Counter({"Reshape": 4, "GroupQueryAttention": 1})
    assert sum(node.op_type == "RotaryEmbedding" for node in model.graph) == sum(rotates)
    check(layer, model)
