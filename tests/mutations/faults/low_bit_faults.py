"""Faults of low bits and of half precision."""

import numpy as np

from mutations.edits import THERE, Array, at_nodes, behind_nodes, constant, op, with_attribute
from mutations.fault import Fault, in_graphs

FLOAT16, BFLOAT16 = 10, 16
BEYOND_FLOAT16 = np.float16(6e4)


def _first_group(old: Array) -> Array:
    return np.repeat(old[:, :1], old.shape[1], axis=1)


FAULTS = [
    Fault(
        "zero points ignored",
        "Codes are centred, where the checkpoint has a zero point a group.",
        "low_bit",
        in_graphs(constant(".zeros", lambda old: np.full_like(old, 0x88))),
        "full_sequence/text",
    ),
    Fault(
        "zero points off by one",
        "Stored zero points are one less than meant, as an old format has them.",
        "low_bit",
        in_graphs(constant(".zeros", lambda old: old - 0x11)),
        "full_sequence/text",
    ),
    Fault(
        "weight scales dropped",
        "Codes are taken as weights.",
        "low_bit",
        in_graphs(constant(".scales", np.ones_like)),
        "full_sequence/text",
    ),
    Fault(
        "group size ignored",
        "The first group's scale is taken for the whole row.",
        "low_bit",
        in_graphs(constant(".scales", _first_group)),
        "full_sequence/text",
    ),
    Fault(
        "halves of a byte exchanged",
        "The two codes of a byte stand in each other's place.",
        "low_bit",
        in_graphs(constant(".packed", lambda old: (old << 4) | (old >> 4))),
        "full_sequence/text",
    ),
    Fault(
        "scales of other columns",
        "Products of fp8 by fp8 are multiplied with the scale of the column before.",
        "fp8",
        in_graphs(constant(".columns", lambda old: np.roll(old, 1))),
        "full_sequence/text",
    ),
    Fault(
        "products twice as large",
        "The factor of the sum of fp8 products is not what their scales make up for.",
        "fp8",
        in_graphs(at_nodes("GemmFloat8", with_attribute("alpha", 2.0**-17))),
        "full_sequence/text",
    ),
    Fault(
        "overflow of float16",
        "States of a block pass the largest number of float16.",
        "half",
        in_graphs(
            behind_nodes(
                "MatMul", op("Mul", THERE, BEYOND_FLOAT16), op("Div", THERE, BEYOND_FLOAT16), which=slice(1)
            )
        ),
        "full_sequence/text",
    ),
    Fault(
        "bfloat16 for float16",
        "States are rounded to bfloat16.",
        "half",
        in_graphs(behind_nodes("MatMul", op("Cast", THERE, to=BFLOAT16), op("Cast", THERE, to=FLOAT16))),
        "full_sequence/text",
    ),
]
