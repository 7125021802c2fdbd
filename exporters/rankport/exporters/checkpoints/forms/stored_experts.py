"""Experts of Mixtral as transformers stored them before release 5, a matrix each: stacked as its class has them now.

transformers stacks them itself where it loads a model; models that are built here and filled by name need it too.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from rankport.exporters.checkpoints.forms.fill import require_full_precision
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder
from rankport.exporters.checkpoints.forms.made_tensors import MadeTensor, with_made
from rankport.protos.errors import CheckpointError

_STORED = re.compile(
    r"(?P<layer>.*)\.block_sparse_moe\.(?:gate|experts\.(?P<expert>\d+)\.(?P<matrix>w[123]))\.weight"
)
_STACKS = {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)}
"""Stack -> matrices of an expert that lie in it, one below the other."""

Experts = dict[tuple[int, str], str]
"""(expert, matrix) -> stored name, of one layer."""


def with_stacked_experts(folder: CheckpointFolder) -> CheckpointFolder:
    """Gives the folder with stacks in place of experts; as it is where it stores none one by one.

    Raises CheckpointError naming the matrix that is missing, or of another shape than the first of its kind.
    """
    made: dict[str, MadeTensor] = {}
    layers: dict[str, Experts] = {}
    for name in folder.tensors:
        stored = _STORED.fullmatch(name)
        if stored is None:
            continue
        if stored["expert"] is None:
            made[f"{stored['layer']}.mlp.gate.weight"] = _renamed(folder, name)
        else:
            layers.setdefault(stored["layer"], {})[int(stored["expert"]), stored["matrix"]] = name
    for layer, experts in layers.items():
        made.update(_stacks(folder, layer, experts))
    return with_made(folder, made) if made else folder


def _renamed(folder: CheckpointFolder, name: str) -> MadeTensor:
    require_full_precision(folder, name)
    return MadeTensor(
        folder.tensors.shape(name), (name,), lambda: folder.tensors.read(name).to(torch.float32)
    )


def _stacks(
    folder: CheckpointFolder, layer: str, experts: Mapping[tuple[int, str], str]
) -> Iterator[tuple[str, MadeTensor]]:
    count = 1 + max(expert for expert, _ in experts)
    for stack, matrices in _STACKS.items():
        names = [[_name(layer, experts, expert, matrix) for matrix in matrices] for expert in range(count)]
        parts = tuple(part for of_one in names for part in of_one)
        rows, columns = _shape(folder, parts)
        yield (
            f"{layer}.mlp.experts.{stack}",
            MadeTensor((count, len(matrices) * rows, columns), parts, partial(_read, folder, names)),
        )


def _name(layer: str, experts: Mapping[tuple[int, str], str], expert: int, matrix: str) -> str:
    name = experts.get((expert, matrix))
    if name is None:
        lacking = f"{layer}.block_sparse_moe.experts.{expert}.{matrix}.weight"
        raise CheckpointError(f"the checkpoint lacks tensor {lacking!r}: copy it again")
    return name


def _shape(folder: CheckpointFolder, parts: tuple[str, ...]) -> tuple[int, ...]:
    first = folder.tensors.shape(parts[0])
    for part in parts:
        require_full_precision(folder, part)
        shape = folder.tensors.shape(part)
        if len(shape) != 2 or shape != first:
            raise CheckpointError(
                f"tensor {part!r} has shape {list(shape)}, and {parts[0]!r} {list(first)}: experts of a layer are "
                "matrices of one shape; copy the checkpoint again"
            )
    return first


def _read(folder: CheckpointFolder, names: list[list[str]]) -> Tensor:
    """Reads fp32 [experts, rows, columns]."""
    return torch.stack([torch.cat([folder.tensors.read(part).float() for part in parts]) for parts in names])
