"""Parts that the published encoders share: norms, rotary positions, attention that sees all. One text, no padding."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

Tensors = Mapping[str, Tensor]


def linear(tensors: Tensors, name: str, states: Tensor) -> Tensor:
    return functional.linear(states, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))


def norm(tensors: Tensors, name: str, states: Tensor, eps: float) -> Tensor:
    centred = states - states.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + eps)
    return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def frequencies(base: float, width: int) -> Tensor:
    return torch.tensor([base ** (-2 * place / width) for place in range(width // 2)])


def rotated(states: Tensor, inverse: Tensor) -> Tensor:
    """Rotates the first half of a head's channels against the second. [heads, tokens, width]"""
    angles = torch.arange(states.shape[1])[:, None] * inverse[None]
    cos, sin = angles.cos(), angles.sin()
    first, second = states.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def attended(packed: Tensor, heads: int, inverse: Tensor | None) -> Tensor:
    """Attention of [tokens, q k v] packed one behind the other; all tokens see all."""
    query, key, value = (
        part.view(len(packed), heads, -1).transpose(0, 1) for part in packed.chunk(3, dim=-1)
    )
    if inverse is not None:
        query, key = rotated(query, inverse), rotated(key, inverse)
    weights = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(query.shape[-1]), -1)
    return (weights @ value).transpose(0, 1).reshape(len(packed), -1)
