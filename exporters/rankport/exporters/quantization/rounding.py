"""Weights onto a low-bit grid: the grids, the scales, and rounding that makes up for its own errors."""

import torch
from torch import Tensor

from rankport.exporters.quantization.activation import FP8_MAX
from rankport.exporters.quantization.recipes import Recipe
from rankport.exporters.quantization.weight import QuantizedWeight

_SHRINKS = torch.linspace(1.0, 0.6, 17)
"""Scales tried, as a share of the one that maps the largest value to the largest code."""
_DAMPING = 0.01
_BLOCK = 128
_CACHED = 2**18
"""Numbers that are rounded at a time."""


def round_to_nearest(weight: Tensor, recipe: Recipe, group: int | None) -> QuantizedWeight:
    """Rounds every weight to its nearest code. weight [out, in] fp32, `group` input channels a scale (None: a row)."""
    blocks = weight.reshape(len(weight), -1, group or weight.shape[1])
    scales = best_scales(blocks, recipe)
    codes = _codes(blocks / scales[..., None], recipe).reshape(weight.shape)
    return QuantizedWeight(codes, scales, None, recipe.bits)


def round_with_compensation(
    weight: Tensor, hessian: Tensor, recipe: Recipe, group: int | None
) -> QuantizedWeight:
    """Rounds by columns, each one's error made up for by those that follow: GPTQ (arXiv 2210.17323, algorithm 1).

    Minimises |W x - W' x|^2 over the calibration inputs, whose sum of outer products is `hessian` [in, in].
    """
    rest, size = weight.clone(), group or weight.shape[1]
    factor = _inverse_factor(hessian)
    codes = torch.empty(weight.shape, dtype=_code_dtype(recipe))
    scales = torch.empty(len(weight), weight.shape[1] // size)
    if group is None:
        scales = best_scales(rest[:, None], recipe)
    for start in range(0, weight.shape[1], _BLOCK):
        stop = min(start + _BLOCK, weight.shape[1])
        errors = torch.empty(len(weight), stop - start)
        for column in range(start, stop):
            place = column // size
            if group is not None and column % size == 0:
                scales[:, place] = best_scales(rest[:, None, column : column + size], recipe)[:, 0]
            codes[:, column] = _codes(rest[:, column] / scales[:, place], recipe)
            rounded = codes[:, column].to(torch.float32) * scales[:, place]
            error = (rest[:, column] - rounded) / factor[column, column]
            rest[:, column + 1 : stop] -= error[:, None] * factor[column, column + 1 : stop]
            errors[:, column - start] = error
        rest[:, stop:] -= errors @ factor[start:stop, stop:]
    return QuantizedWeight(codes, scales, None, recipe.bits)


def best_scales(blocks: Tensor, recipe: Recipe) -> Tensor:
    """Finds each block's scale of least squared error among a few below the largest value's. [rows, …, n] -> [rows, …]

    Some rows at a time: what is tried of them stays in the CPU's cache, which takes a quarter of the time.
    """
    rows = max(1, _CACHED * len(blocks) // max(1, blocks.numel()))
    return torch.cat([_best_scales(part, recipe) for part in blocks.split(rows)])  # type: ignore[no-untyped-call]


def _best_scales(blocks: Tensor, recipe: Recipe) -> Tensor:
    largest = blocks.abs().amax(dim=-1) / _largest_code(recipe)
    # A block of zeros has any scale.
    largest = torch.where(largest > 0, largest, torch.ones_like(largest))
    if recipe.type == "float":
        return largest  # a floating grid gains nothing from clipping
    best, least = largest, torch.full_like(largest, torch.inf)
    for shrink in _SHRINKS:
        scales = largest * shrink
        off = _codes(blocks / scales[..., None], recipe).to(torch.float32) * scales[..., None] - blocks
        error = off.square().sum(dim=-1)
        best = torch.where(error < least, scales, best)
        least = torch.minimum(error, least)
    return best


def int8_rows(table: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds a table [rows, dim] to int8 codes [rows, dim] and a scale a row [rows]."""
    largest = table.abs().amax(dim=1)
    scales = torch.where(largest > 0, largest, torch.ones_like(largest)) / 127
    return (table / scales[:, None]).round_().clamp_(-127, 127).to(torch.int8), scales


def _codes(values: Tensor, recipe: Recipe) -> Tensor:
    if recipe.type == "float":
        return values.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)
    edge = 2 ** (recipe.bits - 1)
    return values.round().clamp(-edge, edge - 1).to(torch.int8)


def _code_dtype(recipe: Recipe) -> torch.dtype:
    return torch.float8_e4m3fn if recipe.type == "float" else torch.int8


def _largest_code(recipe: Recipe) -> float:
    return FP8_MAX if recipe.type == "float" else float(2 ** (recipe.bits - 1) - 1)


def _inverse_factor(hessian: Tensor) -> Tensor:
    """Computes the upper Cholesky factor of the damped inverse. [in, in]"""
    diagonal = hessian.diagonal()
    damped = hessian.to(torch.float64).clone()
    # Channels that calibration never excites keep their weights and take no part.
    damped.diagonal().add_(_DAMPING * diagonal.mean().clamp(min=1e-12))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True).to(torch.float32)
    return factor
