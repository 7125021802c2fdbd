"""Chains of operators that would do the same work around a layer's products: for `operators` to measure.

Each group has today's form first. All are plain enough for every version of ONNX Runtime.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from benchmarks.gpu.single.case import DIM, HEADS, KV, Case, Sizes, normed, rotated, tables

_HIDDEN, _FFN = 1024, 1536


def chains(dtype: torch.dtype, sizes: Sizes) -> dict[str, Case]:
    """All of them."""
    return rotary_forms(dtype, sizes) | product_forms(dtype, sizes) | activation_forms(dtype, sizes)


def rotary_forms(dtype: torch.dtype, sizes: Sizes) -> dict[str, Case]:
    """Norm and rotation of queries: operators of their own, or swapped halves with the sign in the table of sines.

    Halves are swapped by slices and a concatenation, or by a product with a permutation: one pass, and no copies.
    """
    positions = torch.arange(sizes.tokens, device=sizes.device) % 2048
    x = torch.randn(1, sizes.tokens, HEADS, DIM, device=sizes.device).to(dtype)
    weight = torch.randn(DIM, device=sizes.device).to(dtype)
    cos, sin = (table[positions] for table in tables(sizes.device))
    expected = rotated(normed(x.float(), weight.float()), positions[None])
    whole = {
        "cos": torch.cat([cos, cos], -1)[None, :, None].to(dtype),
        "sin": torch.cat([-sin, sin], -1)[None, :, None].to(dtype),
    }
    swap = torch.eye(DIM, device=sizes.device).roll(DIM // 2, 1).to(dtype)
    norm = _node("SimplifiedLayerNormalization", "x w", "n", axis=-1, epsilon=1e-6, stash_type=1)
    sums = [_node("Mul", "n cos", "a"), _node("Mul", "s sin", "b"), _node("Add", "a b", "y0")]
    flat = [_node("Reshape", "n rows", "f"), _ms("RotaryEmbedding", "f p c s", "r", num_heads=HEADS)]
    halves = [
        _node("Split", "n", "low high", axis=-1, num_outputs=2),
        _node("Concat", "high low", "s", axis=-1),
    ]
    operator = {
        "p": torch.zeros(1, dtype=torch.int64, device=sizes.device),
        "c": cos.to(dtype),
        "s": sin.to(dtype),
    }
    shapes = [_ints("rows", [0, 0, HEADS * DIM]), _ints("heads", [0, 0, HEADS, DIM])]
    return {
        "norm, rotary: operators": _chain(
            {"x": x, "w": weight} | operator,
            [norm, *flat, _node("Reshape", "r heads", "y0")],
            expected,
            shapes,
        ),
        "norm, rotary: swapped by slices": _chain(
            {"x": x, "w": weight} | whole, [norm, *halves, *sums], expected
        ),
        "norm, rotary: swapped by a product": _chain(
            {"x": x, "w": weight, "t": swap} | whole, [norm, _node("MatMul", "n t", "s"), *sums], expected
        ),
    }


def product_forms(dtype: torch.dtype, sizes: Sizes) -> dict[str, Case]:
    """Queries, keys and values, and gate and up: products of their own, or one that is split. Products included."""
    widths = {"qkv": (HEADS * DIM, KV * DIM, KV * DIM), "gate, up": (_FFN, _FFN)}
    x = torch.randn(1, sizes.tokens, _HIDDEN, device=sizes.device).to(dtype)
    forms: dict[str, Case] = {}
    for name, parts in widths.items():
        weights = [(torch.randn(_HIDDEN, width, device=sizes.device) / 32).to(dtype) for width in parts]
        expected = x.float() @ weights[0].float()
        apart = [_node("MatMul", f"x w{place}", f"y{place}") for place in range(len(parts))]
        outputs = " ".join(f"y{place}" for place in range(len(parts)))
        together = [_node("MatMul", "x w", "j"), _node("Split", "j sizes", outputs, axis=-1)]
        given = {f"w{place}": weight for place, weight in enumerate(weights)}
        forms[f"{name}: apart"] = _chain({"x": x} | given, apart, expected, outputs=len(parts))
        forms[f"{name}: joined"] = _chain(
            {"x": x, "w": torch.cat(weights, 1)}, together, expected, [_ints("sizes", parts)], len(parts)
        )
        forms[f"{name}: joined, not split"] = _chain(
            {"x": x, "w": torch.cat(weights, 1)}, [_node("MatMul", "x w", "y0")], None
        )
    return forms


def activation_forms(dtype: torch.dtype, sizes: Sizes) -> dict[str, Case]:
    """SwiGLU of a gate and an up."""
    gate, up = (torch.randn(1, sizes.tokens, _FFN, device=sizes.device).to(dtype) for _ in range(2))
    expected = torch.nn.functional.silu(gate.float()) * up.float()
    gated = {"g": gate, "u": up}
    return {
        "swiglu: quick gelu, product": _chain(
            gated, [_ms("QuickGelu", "g", "s", alpha=1.0), _node("Mul", "s u", "y0")], expected
        ),
        "swiglu: sigmoid, two products": _chain(
            gated,
            [_node("Sigmoid", "g", "i"), _node("Mul", "g i", "s"), _node("Mul", "s u", "y0")],
            expected,
        ),
    }


def _chain(
    inputs: dict[str, torch.Tensor],
    nodes: list[NodeProto],
    expected: torch.Tensor | None,
    constants: Sequence[TensorProto] = (),
    outputs: int = 1,
) -> Case:
    given: dict[str, torch.Tensor | None] = {**inputs}
    return Case("", given, nodes=nodes, constants=[*constants], outputs=outputs, expected=expected)


def _node(operator: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def _ms(operator: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs.split(), outputs.split(), domain="com.microsoft", **attributes)


def _ints(name: str, values: Sequence[int]) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)
