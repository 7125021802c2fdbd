"""Recipes, which `--quantize` asks for: one explicit table of recipes."""

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from rankport.exporters.options.options import RecipeName
from rankport.exporters.quantization.activation import FP8_MAX, Activation
from rankport.runtime.bundle.manifest import Target


@dataclass(frozen=True, slots=True)
class Choices:
    """Outcome of an export's look at its model's weights, as its bundle says it: a proof repeats it."""

    kept: frozenset[str]  # names of layers in full precision
    loud_table: bool  # loud columns of the table of embeddings are in full precision


@dataclass(frozen=True, slots=True)
class Recipe:
    """Quantization of linear layers at export. Embedding tables become int8 rows in every recipe."""

    name: RecipeName
    type: Literal["int", "float"]
    bits: int
    group_size: int | None  # at most; None: one scale an output channel
    rounds_inputs: bool = True
    fine: bool = False  # inputs in two bytes, and in full precision what reads one state a text
    loud: int = 0  # columns of an input that stay in full precision, where they are far above the others
    experts: bool = False  # a mixture's experts are rounded too
    repeats: Choices | None = None  # None: the weights decide

    def group_of(self, layer: nn.Linear) -> int | None:
        """Gives the layer's group size: the recipe's, or the largest power of two that divides its input channels.

        None: one scale a channel; 0: no group fits, the layer stays as it is.
        """
        return self.group_of_widths(layer.in_features)

    def group_of_widths(self, *widths: int) -> int | None:
        """Gives the group size of layers that share one, as `group_of`."""
        if self.group_size is None:
            return None
        group = self.group_size
        while group >= _LEAST_GROUP and any(width % group for width in widths):
            group //= 2
        return group if group >= _LEAST_GROUP else 0

    def of_head(self) -> "Recipe":
        """Gives the recipe of a whole LM head: whatever it rounds away is in the logits at once.

        Eight bits in long groups take a CPU less time than four in short ones, though they are more bytes.
        """
        return (
            self
            if self.type == "float"
            else replace(self, bits=8, group_size=_HEAD_GROUP, fine=False, loud=0)
        )

    def of_experts(self) -> "Recipe | None":
        """Gives the recipe of experts, whose inputs are not rounded; None: they stay as they are."""
        if not self.experts or self.type == "float":
            return None
        group = None if self.group_size is None else _EXPERTS_GROUP
        return replace(self, group_size=group, rounds_inputs=False, fine=False, loud=0)

    def activation(self, group: int | None) -> Activation | None:
        """Says how the inputs of a layer are rounded; None: not at all."""
        if not self.rounds_inputs:
            return None
        if self.type == "float":
            return Activation("fp8-token", divisor=FP8_MAX)
        if self.fine:
            return Activation("int16-token")
        return Activation("int8-token") if group is None else Activation("int8-block", block=group)


_LEAST_GROUP, _HEAD_GROUP = 16, 256
_EXPERTS_GROUP = 32  # of 4 bits: with 128 ONNX Runtime 1.32 takes 1.6 times as long

RECIPES: dict[str, Recipe] = {
    "int8": Recipe("int8", "int", 8, None, loud=4),
    "int8-fine": Recipe("int8-fine", "int", 8, None, fine=True),
    "int4": Recipe("int4", "int", 4, 128),
    "fp8": Recipe("fp8", "float", 8, None),
}


def recipe_of(name: str, target: Target) -> Recipe:
    """Suits a recipe to a target: GPUs have no product of int4, or of two bytes, and rounded inputs: nothing gained.

    Columns in full precision are tried on the CPU alone, which alone has experts in low bits.
    """
    recipe = RECIPES[name]
    rounds = recipe.rounds_inputs and (target == "onnx-cpu" or not (recipe.bits == 4 or recipe.fine))
    on_cpu = target == "onnx-cpu"
    return replace(recipe, rounds_inputs=rounds, loud=recipe.loud if on_cpu else 0, experts=on_cpu)
