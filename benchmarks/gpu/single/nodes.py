"""Single operators of ONNX Runtime that a layer is, or could be, made of: for `operators` to measure."""

import numpy as np
import torch

from benchmarks.gpu.single.case import DIM, HEADS, KV, Case, Sizes, normed, rotated, tables


def attention_cases(dtype: torch.dtype, kind: str, sizes: Sizes) -> dict[str, Case]:
    """All forms of one pass's attention over the same numbers."""
    device = sizes.device
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(dtype)

    text = kind == "text"
    batch, length, past = (100, 152, 56) if text else (32, 512, 64)
    batch = max(1, batch // sizes.scale)
    real_past, real = (50, 150) if text else (60, 500)
    q, k, v = draw(batch, length, HEADS * DIM), draw(batch, length, KV * DIM), draw(batch, length, KV * DIM)
    past_k, past_v = draw(batch, KV, past, DIM), draw(batch, KV, past, DIM)
    q_norm, k_norm = draw(DIM), draw(DIM)
    index = torch.arange(length, device=device)
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
        mask = torch.cat([torch.ones(length, real_past, dtype=torch.bool, device=device), own], 1)
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
    cos, sin = (table.to(dtype) for table in tables(device))
    low = torch.finfo(dtype).min / 2
    # Columns are absolute positions: the new tokens follow the real past.
    bias = torch.full((length, past + length), low, device=device)
    bias[:, :real_past] = 0
    bias[:, real_past : real_past + length] = torch.where(own, 0.0, low)
    padded = torch.full((length, past + length), low, device=device)
    padded[:, :real_past] = 0
    padded[:, past:] = torch.where(own, 0.0, low)
    seqlens = torch.full((batch,), real_past + real - 1, dtype=torch.int32, device=device)
    counts = torch.full((batch,), real, dtype=torch.int32, device=device)
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

    keys = torch.cat([past_k.transpose(1, 2), k.reshape(batch, length, KV, DIM)], 1)
    values = torch.cat([past_v.transpose(1, 2), v.reshape(batch, length, KV, DIM)], 1)
    group = HEADS // KV

    def mha(copies: int) -> Case:
        """KV heads copied for each of a group, or query heads by group as rows of one."""
        rows = group // copies

        def by_group(heads: torch.Tensor) -> torch.Tensor:
            if rows == 1:
                return heads
            apart = heads.reshape(batch, -1, KV, group, DIM).transpose(2, 3)
            return apart.reshape(batch, -1, KV * DIM).contiguous()

        return Case(
            "MultiHeadAttention",
            {
                "q": by_group(q),
                "k": keys.repeat_interleave(copies, 2).reshape(batch, past + length, -1),
                "v": values.repeat_interleave(copies, 2).reshape(batch, past + length, -1),
                "b": None,
                "m": None,
                "bias": padded.to(dtype).repeat_interleave(rows, 0)[None, None].repeat(batch, 1, 1, 1),
            },
            {"num_heads": KV * copies, "scale": DIM**-0.5},
            expected=by_group(plain[:, :real]),
        )

    return {
        f"{kind} gqa norms rotary": gqa(rotary=True, norms=True, expected=with_norms),
        f"{kind} gqa rotary": gqa(rotary=True, norms=False, expected=with_rotary),
        f"{kind} gqa": gqa(rotary=False, norms=False, expected=plain),
        f"{kind} mha": mha(group),
        f"{kind} mha by group": mha(1),
    }


def row_cases(dtype: torch.dtype, sizes: Sizes) -> dict[str, Case]:
    """What stands around attention, over 15,200 tokens."""
    tokens, device = sizes.tokens, sizes.device

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device).to(dtype)

    cos, sin = (table.to(dtype)[torch.arange(tokens, device=device) % 2048] for table in tables(device))
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    q = draw(1, tokens, HEADS, DIM)
    states = draw(1, tokens, 1024)
    gate = draw(1, tokens, 1536)
    positions = (torch.arange(tokens, device=device) % 2048)[None]
    exact = tables(device)
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
        "transpose": Case(
            "Transpose", {"x": draw(32, tokens // 32, 8, 256)}, {"perm": [0, 2, 1, 3]}, domain=""
        ),
        "gather of rows": Case(
            "Gather", {"x": states.reshape(tokens, 1024), "i": positions[0]}, {"axis": 0}, domain=""
        ),
    }
