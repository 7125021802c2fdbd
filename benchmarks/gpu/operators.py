"""Operators of ONNX Runtime on CUDA alone, at the sizes of a pass: which of them a graph should be made of.

    python -m benchmarks.gpu.operators --out FILE

Attention of 100 items of 152 tokens on a prefix of 56 (text), and of 32 queries of 250 items of 2 tokens on 64 (mix),
16 heads over 8 of 128; kernel milliseconds by torch's profiler, and the largest error against torch in fp32.
"""

import argparse
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import helper

from benchmarks.gpu.reports.figures import Figures

HEADS, KV, DIM = 16, 8, 128
_TYPES = {torch.float16: 10, torch.bfloat16: 16, torch.float32: 1, torch.int64: 7, torch.int32: 6}


@dataclass
class Case:
    """One node over random inputs."""

    operator: str
    inputs: dict[str, torch.Tensor | None]  # in order; None: left out
    attributes: dict[str, Any] = field(default_factory=dict)
    host: dict[str, np.ndarray] = field(default_factory=dict)  # type: ignore[type-arg]  # of them, in host memory
    outputs: int = 1
    domain: str = "com.microsoft"
    expected: torch.Tensor | None = None


def run(case: Case, dtype: torch.dtype) -> dict[str, Any]:
    """Milliseconds and error."""
    names = [name if value is not None or name in case.host else "" for name, value in case.inputs.items()]
    kinds = {n: _TYPES[v.dtype] for n, v in case.inputs.items() if v is not None}
    kinds |= {name: {"int32": 6, "int64": 7}[array.dtype.name] for name, array in case.host.items()}
    shapes = {n: list(v.shape) for n, v in case.inputs.items() if v is not None} | {
        name: list(array.shape) for name, array in case.host.items()
    }
    while not names[-1]:
        names.pop()
    outs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.operator, names, outs, domain=case.domain, **case.attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, kinds[n], shapes[n]) for n in names if n],
        [helper.make_tensor_value_info(out, _TYPES[dtype], None) for out in outs],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=[("CUDAExecutionProvider", {"use_tf32": "0"})]
    )
    binding = session.io_binding()
    for name in filter(None, names):
        if name in case.host:
            binding.bind_cpu_input(name, case.host[name])
        else:
            value = case.inputs[name]
            assert value is not None
            binding.bind_input(name, "cuda", 0, _TYPES[value.dtype], list(value.shape), value.data_ptr())
    torch.cuda.synchronize()
    for out in outs:
        binding.bind_output(out, "cuda")
    for _ in range(3):
        session.run_with_iobinding(binding)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(5):
            session.run_with_iobinding(binding)
        torch.cuda.synchronize()
    spent: Counter[str] = Counter()
    for event in profile.events():
        if not event.name.startswith("Memcpy DtoH"):
            spent[event.name[:60]] += event.device_time_total / 5e3
    found: dict[str, Any] = {"ms": sum(spent.values()), "kernels": dict(spent.most_common(4))}
    if case.expected is not None:
        given = binding.get_outputs()[0]
        count = int(np.prod(given.shape()))
        raw = torch.empty(count, dtype=dtype, device="cuda")
        torch.cuda.cudart().cudaMemcpy(raw.data_ptr(), given.data_ptr(), count * 2, 3)
        actual = raw.reshape(given.shape()).float()
        error = (actual[:, : case.expected.shape[1]] - case.expected).abs().max()
        found["max_error"] = float(error)
    return found


def rotated(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """x [..., tokens, heads, dim]"""
    cos, sin = (table[positions][..., None, :] for table in tables())
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


def tables() -> tuple[torch.Tensor, torch.Tensor]:
    """[2048, dim / 2] fp32"""
    angles = torch.arange(2048, device="cuda")[:, None] * 1e6 ** (
        -torch.arange(DIM // 2, device="cuda") / (DIM // 2)
    )
    return angles.cos(), angles.sin()


def normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """RMS over the last axis."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight


def attention_cases(dtype: torch.dtype, kind: str) -> dict[str, Case]:
    """All forms of one pass's attention over the same numbers."""
    generator = torch.Generator("cuda").manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device="cuda").to(dtype)

    text = kind == "text"
    batch, length, past = (100, 152, 56) if text else (32, 512, 64)
    real_past, real = (50, 150) if text else (60, 500)
    q, k, v = draw(batch, length, HEADS * DIM), draw(batch, length, KV * DIM), draw(batch, length, KV * DIM)
    past_k, past_v = draw(batch, KV, past, DIM), draw(batch, KV, past, DIM)
    q_norm, k_norm = draw(DIM), draw(DIM)
    index = torch.arange(length, device="cuda")
    offsets = index if text else index % 2
    positions = (real_past + offsets)[None].expand(batch, length).contiguous()
    own = (
        (index[None] <= index[:, None])
        if text
        else ((index[None] <= index[:, None]) & (index[None] // 2 == index[:, None] // 2))
    )

    def reference(raw_q: torch.Tensor, raw_k: torch.Tensor) -> torch.Tensor:
        queries = raw_q.transpose(1, 2)
        keys = torch.cat([past_k[:, :, :real_past].float(), raw_k.transpose(1, 2)], 2).repeat_interleave(2, 1)
        values = torch.cat([past_v[:, :, :real_past], v.reshape(batch, length, KV, DIM).transpose(1, 2)], 2)
        mask = torch.cat([torch.ones(length, real_past, dtype=torch.bool, device="cuda"), own], 1)
        out = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values.float().repeat_interleave(2, 1), attn_mask=mask
        )
        return out.transpose(1, 2).reshape(batch, length, HEADS * DIM)

    heads_q, heads_k = q.float().reshape(batch, length, HEADS, DIM), k.float().reshape(batch, length, KV, DIM)
    plain = reference(heads_q, heads_k)
    turned_q, turned_k = rotated(heads_q, positions), rotated(heads_k, positions)
    with_rotary = reference(turned_q, turned_k)
    with_norms = reference(
        rotated(normed(heads_q, q_norm.float()), positions),
        rotated(normed(heads_k, k_norm.float()), positions),
    )
    cos, sin = (table.to(dtype) for table in tables())
    low = torch.finfo(dtype).min / 2
    # Columns are absolute positions: the new tokens follow the real past.
    bias = torch.full((length, past + length), low, device="cuda")
    bias[:, :real_past] = 0
    bias[:, real_past : real_past + length] = torch.where(own, 0.0, low)
    padded = torch.full((length, past + length), low, device="cuda")
    padded[:, :real_past] = 0
    padded[:, past:] = torch.where(own, 0.0, low)
    seqlens = torch.full((batch,), real_past + real - 1, dtype=torch.int32, device="cuda")
    counts = torch.full((batch,), real, dtype=torch.int32, device="cuda")
    bias_rows = bias.to(dtype)[None, None].expand(batch, 1, -1, -1).contiguous()

    def gqa(*, rotary: bool, norms: bool, expected: torch.Tensor) -> Case:
        inputs: dict[str, torch.Tensor | None] = {
            "q": q,
            "k": k,
            "v": v,
            "past_k": past_k,
            "past_v": past_v,
            "seqlens": seqlens,
            "total": None,
            "cos": cos if rotary else None,
            "sin": sin if rotary else None,
            "positions": positions if rotary and not text else None,
            "bias": None if text else bias_rows,
            "sink": None,
            "k_scale": None,
            "v_scale": None,
            "q_norm": q_norm if norms else None,
            "k_norm": k_norm if norms else None,
            "counts": counts,
        }
        return Case(
            "GroupQueryAttention",
            inputs,
            {"num_heads": HEADS, "kv_num_heads": KV, "do_rotary": int(rotary), "scale": DIM**-0.5},
            {"total": np.array([past + length], np.int32)},
            outputs=3,
            expected=expected[:, :real],
        )

    keys = torch.cat([past_k.transpose(1, 2), k.reshape(batch, length, KV, DIM)], 1).repeat_interleave(2, 2)
    values = torch.cat([past_v.transpose(1, 2), v.reshape(batch, length, KV, DIM)], 1).repeat_interleave(2, 2)
    mha = Case(
        "MultiHeadAttention",
        {
            "q": q,
            "k": keys.reshape(batch, past + length, -1),
            "v": values.reshape(batch, past + length, -1),
            "b": None,
            "m": None,
            "bias": padded.to(dtype)[None, None].expand(batch, 1, -1, -1).contiguous(),
        },
        {"num_heads": HEADS, "scale": DIM**-0.5},
    )
    return {
        f"{kind} gqa norms rotary": gqa(rotary=True, norms=True, expected=with_norms),
        f"{kind} gqa rotary": gqa(rotary=True, norms=False, expected=with_rotary),
        f"{kind} gqa": gqa(rotary=False, norms=False, expected=plain),
        f"{kind} mha": mha,
    }


def row_cases(dtype: torch.dtype) -> dict[str, Case]:
    """What stands around attention, over 15,200 tokens."""
    tokens = 15_200

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda").to(dtype)

    cos, sin = (table.to(dtype)[torch.arange(tokens, device="cuda") % 2048] for table in tables())
    zero = torch.zeros(1, dtype=torch.int64, device="cuda")
    q = draw(1, tokens, HEADS, DIM)
    states = draw(1, tokens, 1024)
    gate = draw(1, tokens, 1536)
    positions = (torch.arange(tokens, device="cuda") % 2048)[None]
    exact = tables()
    return {
        "rotary 3d": Case(
            "RotaryEmbedding",
            {"x": q.reshape(1, tokens, -1), "p": zero, "c": cos, "s": sin},
            {"num_heads": HEADS},
        ),
        "rotary 4d": Case(
            "RotaryEmbedding",
            {"x": draw(1, HEADS, tokens, DIM), "p": zero, "c": cos, "s": sin},
            {"num_heads": HEADS},
        ),
        "norm of heads": Case(
            "SimplifiedLayerNormalization",
            {"x": q, "w": draw(DIM)},
            {"axis": -1, "epsilon": 1e-6, "stash_type": 1},
            domain="",
        ),
        "norm and rotary": Case(
            "RMSNormRotary",
            {"x": q, "w": draw(DIM).float(), "p": positions, "c": exact[0], "s": exact[1]},
            {"epsilon": 1e-6, "rotary_embedding_dim": DIM, "output_fp16": int(dtype == torch.float16)},
        ),
        "swiglu": Case("SwiGLU", {"g": draw(1, tokens, 3072)}, {"activation_alpha": 1.0}),
        "swiglu of two": Case("SwiGLU", {"g": gate, "u": draw(1, tokens, 1536)}, {"activation_alpha": 1.0}),
        "quick gelu": Case("QuickGelu", {"g": gate}, {"alpha": 1.0}),
        "skip norm": Case(
            "SkipSimplifiedLayerNormalization", {"x": states, "y": states, "w": draw(1024)}, {"epsilon": 1e-6}
        ),
        "transpose": Case("Transpose", {"x": draw(32, 475, 8, 256)}, {"perm": [0, 2, 1, 3]}, domain=""),
        "gather of rows": Case(
            "Gather", {"x": states.reshape(tokens, 1024), "i": positions[0]}, {"axis": 0}, domain=""
        ),
    }


def main() -> None:
    """Every case in both half precisions; one that cannot run says why."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    onnxruntime.set_default_logger_severity(4)
    figures = Figures(given.out)
    for dtype in (torch.bfloat16, torch.float16):
        for kind in ("text", "mix", "rows"):
            cases = row_cases(dtype) if kind == "rows" else attention_cases(dtype, kind)
            for name, case in cases.items():
                title = f"{str(dtype).removeprefix('torch.')} {name}"
                try:
                    figures.add(title, run(case, dtype))
                except Exception as error:  # told; the others are still measured
                    figures.add(title, f"{type(error).__name__}: {str(error)[:400]}")


if __name__ == "__main__":
    main()
