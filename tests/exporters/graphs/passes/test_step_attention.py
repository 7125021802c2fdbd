"""Attention that was traced whole has, in both of its forms, the maths of `PackedPrefix`."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from rankport.exporters.graphs.passes.step_attention import DOMAIN, OPERATOR, expand_attention
from rankport.exporters.kinds.decoders.packed_attention import PackedPrefix

HEADS, KV_HEADS, DIM, SCALE = 4, 2, 8, 0.3
SHAPES: dict[str, list[str | int]] = {
    "query": [1, "tokens", HEADS, DIM],
    "key": [1, "tokens", KV_HEADS, DIM],
    "value": [1, "tokens", KV_HEADS, DIM],
    "past_key": ["prefixes", KV_HEADS, "past", DIM],
    "past_value": ["prefixes", KV_HEADS, "past", DIM],
    "slots": ["prefixes", "items", "item_tokens"],
    "token_slots": ["tokens"],
    "past_lengths": ["prefixes"],
}
INTEGERS = ("slots", "token_slots", "past_lengths")
# slots, token_slots, lengths of the past: tokens of every prefix one; several; of one prefix alone, without a past.
PASSES = {
    "a token each": ([[[0]], [[1]], [[2]]], [0, 1, 2], [5, 1, 3]),
    "items": ([[[0, 1, 2], [3, 0, 0]], [[4, 5, 0], [0, 0, 0]]], [0, 1, 2, 3, 6, 7], [4, 2]),
    "a prompt": ([[[0, 1, 2, 3]]], [0, 1, 2, 3], [0]),
}


def attention(softcap: float) -> onnxruntime.InferenceSession:
    inputs = [
        ir.Value(
            name=name,
            shape=ir.Shape(shape),
            type=ir.TensorType(ir.DataType.INT64 if name in INTEGERS else ir.DataType.FLOAT),
        )
        for name, shape in SHAPES.items()
    ]
    numbers = {"heads": HEADS, "kv_heads": KV_HEADS, "head_dim": DIM, "scale": SCALE, "softcap": softcap}
    node = ir.node(OPERATOR, inputs, numbers, domain=DOMAIN, num_outputs=3)
    for output, name in zip(node.outputs, ("mixed", "new_key", "new_value"), strict=True):
        output.name, output.type = name, ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(inputs, node.outputs, nodes=[node], opset_imports={"": 21, "com.microsoft": 1})
    model = ir.Model(graph, ir_version=10)
    assert expand_attention(model) == 1
    data = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def given(name: str) -> dict[str, torch.Tensor]:
    slots, token_slots, lengths = PASSES[name]
    sizes = {"tokens": len(token_slots), "prefixes": len(lengths), "past": max(lengths)}
    generator = torch.Generator().manual_seed(len(token_slots))
    states = {
        part: torch.randn([sizes.get(str(size), size) for size in shape], generator=generator)
        for part, shape in SHAPES.items()
        if part not in INTEGERS
    }
    integers = {"slots": slots, "token_slots": token_slots, "past_lengths": lengths}
    return states | {part: torch.tensor(numbers) for part, numbers in integers.items()}


def expected(inputs: dict[str, torch.Tensor], softcap: float) -> list[NDArray[np.float32]]:
    past = [(inputs["past_key"], inputs["past_value"])]
    prefix = PackedPrefix(inputs["slots"], inputs["token_slots"], inputs["past_lengths"], past)
    by_head = [inputs[part].transpose(1, 2) for part in ("query", "key", "value")]
    mixed, (key, value) = prefix.attend(0, *by_head, SCALE, softcap or None)
    return [mixed.flatten(2).numpy(), key.numpy(), value.numpy()]


@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_both_forms_attend_as_packed_attention(softcap: float) -> None:
    session = attention(softcap)
    for name in PASSES:
        inputs = given(name)
        results = session.run(None, {part: value.numpy() for part, value in inputs.items()})
        for result, right in zip(results, expected(inputs, softcap), strict=True):
            np.testing.assert_allclose(result, right, atol=1e-5, err_msg=name)
