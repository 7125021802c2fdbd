"""A mixture of experts by ONNX Runtime's operator, and by products in which every expert computes every token.

The operator is what graphs for a CPU have; those for CUDA have the products, until it was measured there.
"""

import torch
from onnx import helper

from benchmarks.gpu.single.case import Case, Sizes

_EXPERTS, _CHOSEN, _HIDDEN, _WIDTH = 64, 8, 1024, 512


def expert_cases(dtype: torch.dtype, sizes: Sizes) -> dict[str, Case]:
    """Both over the same numbers."""
    device, tokens = sizes.device, sizes.tokens
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator, device=device) * scale).to(dtype)

    states, router = draw(tokens, _HIDDEN), draw(tokens, _EXPERTS)
    up = draw(_EXPERTS, 2 * _WIDTH, _HIDDEN, scale=_HIDDEN**-0.5)  # gate and up alternate
    down = draw(_EXPERTS, _HIDDEN, _WIDTH, scale=_WIDTH**-0.5)
    largest, chosen = router.float().softmax(-1).topk(_CHOSEN)
    shares = largest / largest.sum(-1, keepdim=True)
    routed = torch.zeros(tokens, _EXPERTS, device=device).scatter(-1, chosen, shares)
    expected = _mixed(states.float(), up.float(), down.float(), routed)
    options = {
        "k": _CHOSEN,
        "activation_type": "swiglu",
        "activation_alpha": 1.0,
        "activation_beta": 0.0,
        "swiglu_fusion": 1,
        "normalize_routing_weights": 1,
    }
    gates, ups = up[:, 0::2].mT.contiguous(), up[:, 1::2].mT.contiguous()
    dense: dict[str, torch.Tensor | None] = {
        "x": states[None],
        "gates": gates,
        "ups": ups,
        "down": down.mT.reshape(_EXPERTS * _WIDTH, _HIDDEN).contiguous(),
        "shares": routed.T[:, :, None].contiguous().to(dtype),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "gates"], ["g"]),
        helper.make_node("MatMul", ["x", "ups"], ["u"]),
        helper.make_node("QuickGelu", ["g"], ["a"], domain="com.microsoft", alpha=1.0),
        helper.make_node("Mul", ["a", "u"], ["m"]),
        helper.make_node("Mul", ["m", "shares"], ["w"]),
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["t", "flat"], ["f"]),
        helper.make_node("MatMul", ["f", "down"], ["y0"]),
    ]
    flat = helper.make_tensor("flat", 7, [2], [tokens, _EXPERTS * _WIDTH])
    return {
        "experts: every one": Case("", dense, expected=expected, nodes=nodes, constants=[flat]),
        "experts: the chosen": Case(
            "MoE",
            {"x": states, "r": router, "up": up, "b": None, "down": down},
            options,
            expected=expected,
        ),
    }


def _mixed(states: torch.Tensor, up: torch.Tensor, down: torch.Tensor, routed: torch.Tensor) -> torch.Tensor:
    """Computes it in fp32, an expert after another. [tokens, hidden]"""
    total = torch.zeros_like(states)
    for expert in range(len(up)):
        rows = routed[:, expert].nonzero()[:, 0]
        inner = states[rows] @ up[expert].T
        gated = torch.nn.functional.silu(inner[:, 0::2]) * inner[:, 1::2]
        total[rows] += routed[rows, expert, None] * (gated @ down[expert].T)
    return total
