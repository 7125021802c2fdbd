"""One measurement of `operators`: a node, or a chain of nodes, over random inputs; and the maths that several share."""

from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

HEADS, KV, DIM = 16, 8, 128
TYPES = {torch.float16: 10, torch.bfloat16: 16, torch.float32: 1, torch.int64: 7, torch.int32: 6}


@dataclass(frozen=True)
class Sizes:
    """Where cases run, and at which fraction of the tokens of a pass."""

    device: str
    scale: int

    @property
    def tokens(self) -> int:
        """Tokens of a pass: a multiple of 32."""
        return max(32, 15_200 // self.scale // 32 * 32)


@dataclass
class Case:
    """One node, or the nodes of a chain, over random inputs."""

    operator: str
    inputs: dict[str, torch.Tensor | None]  # in order; None: left out
    attributes: dict[str, Any] = field(default_factory=dict)
    host: dict[str, NDArray[Any]] = field(default_factory=dict)  # of them, in host memory
    outputs: int = 1
    domain: str = "com.microsoft"
    expected: torch.Tensor | None = None
    nodes: list[NodeProto] = field(default_factory=list)  # of a chain, whose outputs are y0, y1, ...
    constants: list[TensorProto] = field(default_factory=list)

    @property
    def output_names(self) -> list[str]:
        """y0, y1, ..."""
        return [f"y{place}" for place in range(self.outputs)]

    def made_nodes(self, names: list[str]) -> list[NodeProto]:
        """The chain, or the one node over inputs of these names."""
        if self.nodes:
            return self.nodes
        node = helper.make_node(
            self.operator, names, self.output_names, domain=self.domain, **self.attributes
        )
        return [node]


def rotated(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """x [..., tokens, heads, dim]"""
    cos, sin = (table[positions][..., None, :] for table in tables(str(x.device)))
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


def tables(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """[2048, dim / 2] fp32"""
    angles = torch.arange(2048, device=device)[:, None] * 1e6 ** (
        -torch.arange(DIM // 2, device=device) / (DIM // 2)
    )
    return angles.cos(), angles.sin()


def normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """RMS over the last axis."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight
