"""Experts that are stored one by one, a matrix each: stacked as transformers' classes have them.

transformers stacks them where it loads a model; models that are built here and filled by name need it too. Which
matrices a family stacks, and by what names, its table of conversions says (transformers/conversion_mapping.py, 5.24).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter, WeightRenaming

from rankport.exporters.checkpoints.forms.fill import local_name, require_full_precision
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder
from rankport.exporters.checkpoints.forms.made_tensors import MadeTensor, with_made
from rankport.protos.errors import CheckpointError

Matrices = dict[tuple[int, int], str]
"""(expert, part) -> stored name, of the matrices of a stack; parts of an expert lie in it one below the other."""


@dataclass(frozen=True, slots=True)
class ExpertPlace:
    """Place of a matrix of one expert."""

    stack: str  # the parameter [experts, rows, columns]
    expert: int
    part: int


class ExpertNames:
    """Names under which the family of a model stores its experts, and what it calls otherwise beside them."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.places = model.state_dict(keep_vars=True)
        conversions = get_checkpoint_conversion_mapping(model.config.model_type) or []  # type: ignore[no-untyped-call, union-attr]
        self._renamings = [
            (source, target)
            for one in conversions
            if isinstance(one, WeightRenaming)
            for source, target in zip(one.source_patterns, one.target_patterns, strict=True)
        ]
        self._stacks = [
            (_with_number(source), one.target_patterns[0], part)
            for one in conversions
            if isinstance(one, WeightConverter) and _stacks(one)
            for part, source in enumerate(one.source_patterns)
        ]

    def place(self, name: str) -> ExpertPlace | None:
        """Finds where a stored matrix goes; None of any that is no expert's, or of which the model has no stack."""
        for pattern, target, part in self._stacks:
            found = pattern.fullmatch(name)
            stack = None if found is None else self.renamed(f"{found['before']}{target}")
            if found is not None and stack is not None:
                return ExpertPlace(stack, int(found["expert"]), part)
        return None

    def renamed(self, name: str) -> str | None:
        """Gives the model's name of a stored tensor; None where it has no place."""
        place = local_name(self._model, self.places, name)
        for source, target in () if place is not None else self._renamings:
            name = re.sub(source.replace(".", r"\.") if source.startswith(".") else source, target, name)
        return place or local_name(self._model, self.places, name)


def _stacks(conversion: WeightConverter) -> bool:
    """Tells a conversion that stacks experts, and joins their parts before: nothing else."""
    merge, *joins = conversion.operations
    return (
        isinstance(merge, MergeModulelist)
        and merge.dim == 0
        and all(isinstance(join, Concatenate) and join.dim == 1 for join in joins)
        and len(joins) == (len(conversion.source_patterns) > 1)
        and len(conversion.target_patterns) == 1
    )


def _with_number(pattern: str) -> re.Pattern[str]:
    return re.compile("(?P<before>.*?)" + re.escape(pattern).replace(r"\*", r"(?P<expert>\d+)"))


def with_stacked_experts(folder: CheckpointFolder, model: nn.Module) -> CheckpointFolder:
    """Gives the folder with stacks in place of experts; as it is where it stores none one by one.

    Raises CheckpointError naming the matrix that is missing, or of another shape than the first of its kind.
    """
    names = ExpertNames(model)
    stacks: dict[str, Matrices] = {}
    renamed: dict[str, str] = {}
    for name in folder.tensors:
        place = names.place(name)
        if place is not None:
            stacks.setdefault(place.stack, {})[place.expert, place.part] = name
        elif (own := names.renamed(name)) is not None and local_name(model, names.places, name) is None:
            renamed[own] = name
    if not stacks and not renamed:
        return folder
    made = {own: _renamed(folder, name) for own, name in renamed.items()}
    made |= {stack: _stacked(folder, matrices) for stack, matrices in stacks.items()}
    return with_made(folder, made)


def complete(
    matrices: Mapping[tuple[int, int], str], count: int | None = None, noun: str = "tensor"
) -> list[list[str]]:
    """Lists the stored names of a stack by expert and part, of `count` experts where that is known.

    Raises CheckpointError naming the matrix that is missing.
    """
    experts = count or 1 + max(expert for expert, _ in matrices)
    parts = 1 + max(part for _, part in matrices)
    for key in ((expert, part) for expert in range(experts) for part in range(parts)):
        if key not in matrices:
            raise CheckpointError(f"the checkpoint lacks {noun} {_lacking(matrices, *key)}: copy it again")
    return [[matrices[expert, part] for part in range(parts)] for expert in range(experts)]


def _lacking(matrices: Mapping[tuple[int, int], str], expert: int, part: int) -> str:
    """Names a matrix by that of another expert; where all lack it, by another of its expert."""
    other = next(((number, name) for (number, place), name in matrices.items() if place == part), None)
    if other is None:
        return f"beside {next(iter(matrices.values()))!r} that lies in one stack with it"
    number, name = other
    return repr(re.sub(rf"(experts\.){number}\.", rf"\g<1>{expert}.", name))


def _renamed(folder: CheckpointFolder, name: str) -> MadeTensor:
    require_full_precision(folder, name)
    return MadeTensor(
        folder.tensors.shape(name), (name,), lambda: folder.tensors.read(name).to(torch.float32)
    )


def _stacked(folder: CheckpointFolder, matrices: Matrices) -> MadeTensor:
    names = complete(matrices)
    parts = tuple(part for of_one in names for part in of_one)
    rows, columns = _shape(folder, parts)
    return MadeTensor((len(names), len(names[0]) * rows, columns), parts, partial(_read, folder, names))


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
