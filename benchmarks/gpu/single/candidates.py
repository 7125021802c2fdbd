"""Chains of operators that would do the same work around a layer's products: for `operators` to measure.

Each group has today's form first. All are plain enough for every version of ONNX Runtime.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from benchmarks.gpu.single.case import DIM, HEADS, KV, TYPES, Case, Sizes, normed, rotated, tables

_HIDDEN, _FFN = 1024, 1536
_WIDE = ((1024, 3072), (4096, 12288))  # gate and up of rankers of 0.6 and 8 billion parameters


def chains(dtype: torch.dtype, sizes: Sizes) -> dict[str, Case]:
    """All of them."""
    forms = rotary_forms(dtype, sizes) | product_forms(dtype, sizes) | activation_forms(dtype, sizes)
    return forms | fp8_forms(dtype, sizes)


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


def fp8_forms(dtype: torch.dtype, sizes: Sizes) -> dict[str, Case]:
    """A product as it is, and of weights in fp8: dequantized in every pass, or multiplied by inputs in fp8.

    The last has the rounding of inputs and both scales too, as `--fp8-products` writes them; the operator alone is a
    kernel of it. What it costs the host is in the clock's milliseconds alone: it waits for the device and allocates.
    """
    forms: dict[str, Case] = {}
    for inner, outer in _WIDE if sizes.scale == 1 else _WIDE[:1]:
        x = torch.randn(sizes.tokens, inner, device=sizes.device).to(dtype)
        full = torch.randn(outer, inner, device=sizes.device) / 32
        scales = full.abs().amax(1) / 448
        codes = (full / scales[:, None]).to(torch.float8_e4m3fn)
        exact = codes.float() * scales[:, None]
        expected, name = x.float() @ exact.T, f"fp8, {inner} to {outer}"
        made, wide = TYPES[torch.float16 if dtype == torch.bfloat16 else dtype], dtype != torch.float32
        plain = [_node("DequantizeLinear", "c s", "w" if dtype != torch.bfloat16 else "f", axis=1)]
        plain += [_node("Cast", "f", "w", to=TYPES[dtype])] if dtype == torch.bfloat16 else []
        # bfloat16 has no such operator: it is widened first.
        dequantized = scales if dtype == torch.bfloat16 else scales.to(dtype)
        columns = (scales * 2**18 / 448).to(dtype)
        forms |= {
            f"{name}: not in fp8": _chain(
                {"x": x, "w": exact.T.to(dtype).contiguous()}, [_node("MatMul", "x w", "y0")], expected
            ),
            f"{name}: dequantized": _chain(
                {"x": x, "s": dequantized},
                [*plain, _node("MatMul", "x w", "y0")],
                expected,
                [_fp8("c", codes.T)],
            ),
            f"{name}: by fp8": _chain(
                {"x": x, "s": columns},
                [
                    _node("Cast", "x", "v", to=1),
                    _node("Abs", "v", "a"),
                    _node("ReduceMax", "a last", "m", keepdims=1),
                    _node("Div", "m top", "t"),
                    _node("Div", "v t", "u"),
                    _node("Cast", "u", "q", to=TensorProto.FLOAT8E4M3FN),
                    _ms("GemmFloat8", "q c", "p", transB=1, alpha=2.0**-18, dtype=made),
                    *([_node("Cast", "p", "b", to=TYPES[dtype])] if dtype == torch.bfloat16 else []),
                    _node("Mul", "b s" if dtype == torch.bfloat16 else "p s", "h"),
                    _node("Cast", "m", "n", to=TYPES[dtype]),
                    _node("Mul", "h n", "y0"),
                ],
                expected,
                [_fp8("c", codes), _ints("last", [-1]), _number("top", 448)],
            ),
        }
        if wide:
            forms[f"{name}: dequantized in one operator"] = _chain(
                {"x": x, "s": scales[:, None].expand(-1, inner // 128).contiguous()},
                [_ms("MatMulBlockQuantizedFp8Weight", "x c s", "y0", block_size=128)],
                expected,
                [_fp8("c", codes)],
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


def _number(name: str, value: float) -> TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)


def _fp8(name: str, codes: torch.Tensor) -> TensorProto:
    raw = codes.contiguous().view(torch.uint8).cpu().numpy().tobytes()
    return helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, list(codes.shape), raw, raw=True)
