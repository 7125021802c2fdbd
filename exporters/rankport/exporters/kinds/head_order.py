"""Query heads in the order (group, KV head), in which those that share keys and values are rows of one head.

ONNX Runtime's fused attention for CUDA takes as many KV heads as query heads: in a checkpoint's order (KV head, group)
keys and values are copied for each head of a group. By group, the queries of a token are as many tokens of `kv_heads`
heads, as they lie. What `q_proj` gives and `o_proj` takes is put in that order before a trace: a pass moves nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rankport.exporters.quantization.linear import unrounded_inputs
from rankport.exporters.quantization.reordered import with_inputs, with_outputs

_MOST = 1e-4
"""Largest difference, as a share of the largest number: what the order of sums may move."""


@dataclass(frozen=True, slots=True, eq=False)
class AttentionHeads:
    """Heads of a module that attends, by what its attention was called with."""

    module: nn.Module
    heads: int
    kv_heads: int
    head_dim: int


Modules = frozenset[nn.Module]
Run = Callable[[Modules], tuple[Sequence[AttentionHeads], Sequence[Tensor]]]
"""Runs a model on a few tokens, the heads of these modules by group. Tells heads that may be, and numbers that depend
on all of them."""


@contextmanager
def heads_by_group(model: nn.Module, run: Run) -> Iterator[Modules]:
    """Has the heads of modules, while open, stand by group: of all that `run` tells, or, as they were, of none.

    Of none where the numbers then are others: queries that are not `q_proj`'s, head by head and alike, say, or a result
    that something else takes than `o_proj`; nor where scales of low bits lie across heads.
    """
    with torch.no_grad(), unrounded_inputs(model):
        told, expected = run(frozenset())
    layers = [layer for layer in told if layer.heads != layer.kv_heads]
    moved = [made for layer in layers if (made := _moved(layer)) is not None]
    if not moved or len(moved) < len(layers):
        yield frozenset()
        return
    modules = frozenset(layer.module for layer in layers)
    before = [(layer.module, layer.module.q_proj, layer.module.o_proj) for layer in layers]
    try:
        for layer, (queries, result) in zip(layers, moved, strict=True):
            layer.module.q_proj, layer.module.o_proj = queries, result
        with torch.no_grad(), unrounded_inputs(model):
            _, numbers = run(modules)
        if not all(map(alike, expected, numbers)):
            _put_back(before)
            modules = frozenset()
        yield modules
    finally:
        _put_back(before)


def _put_back(before: Sequence[tuple[nn.Module, nn.Module | Tensor, nn.Module | Tensor]]) -> None:
    for module, queries, result in before:
        module.q_proj, module.o_proj = queries, result


def _moved(layer: AttentionHeads) -> tuple[nn.Module, nn.Module] | None:
    """Makes `q_proj` and `o_proj` by group, if the module has such layers of all heads."""
    queries, result = (getattr(layer.module, name, None) for name in ("q_proj", "o_proj"))
    width = layer.heads * layer.head_dim
    if getattr(queries, "out_features", None) != width or getattr(result, "in_features", None) != width:
        return None
    group = layer.heads // layer.kv_heads
    order = torch.arange(width).reshape(layer.kv_heads, group, layer.head_dim).transpose(0, 1).flatten()
    assert isinstance(queries, nn.Module)
    assert isinstance(result, nn.Module)
    giving, taking = with_outputs(queries, order), with_inputs(result, order)
    return None if giving is None or taking is None else (giving, taking)


def alike(expected: Tensor, actual: Tensor) -> bool:
    """Tells whether numbers are equal but for the order of sums."""
    return bool((expected - actual).abs().max() <= _MOST * expected.abs().max())
