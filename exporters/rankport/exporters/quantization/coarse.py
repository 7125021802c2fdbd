"""Weights that a grid of equal steps is too coarse for: single numbers far above the others, which set the step."""

from torch import Tensor

from rankport.exporters.quantization.recipes import Recipe
from rankport.exporters.quantization.rounding import round_to_nearest

_MOST = {8: 0.1, 4: 0.4}
"""Bits -> share of a matrix' small numbers that rounding may take: more, and a layer stays in full precision.

Of normally distributed weights 8 bits of integers take .007 (of Student's t of three degrees up to .04), of fp8 .026,
4 bits .1; int8 .6 of a row that holds one number of 500 times the size of the others.
"""
_SAMPLE = 256
"""Rows that tell: rounding all of a large matrix once more would take as long as quantizing it."""


def is_coarse(weight: Tensor, quiet: Tensor, recipe: Recipe, group: int | None) -> bool:
    """Tells a matrix [out, in] of whose small numbers rounding would take too much.

    `quiet` [in] is 0 for columns that are not rounded, else 1.
    """
    rows = weight if len(weight) <= _SAMPLE else weight[:: len(weight) // _SAMPLE]
    return _lost(rows.float() * quiet, recipe, group) > _MOST[recipe.bits]


def _lost(weight: Tensor, recipe: Recipe, group: int | None) -> float:
    """Gives what rounding to nearest takes, as a share of the numbers that are not the largest of their step.

    Root of the sums of squares. Where there are no others, sums in fp32 have an error of their own.
    """
    lost = round_to_nearest(weight, recipe, group).dequantized() - weight
    squares = weight.square().reshape(len(weight), -1, group or weight.shape[1])
    total = squares.sum()
    others = (total - squares.amax(dim=-1).sum()).clamp(min=1e-8 * float(total) + 1e-30)
    return float((lost.square().sum() / others).sqrt())
