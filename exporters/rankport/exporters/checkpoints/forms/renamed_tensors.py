"""The tensors of a folder in a published layout, by the names that transformers' class has for them.

A stored tensor may be several of the class, one below the other (Wqkv), and may have low-rank adapters beside it, one
for each task: that of the task that is named is added to it.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors
from rankport.exporters.checkpoints.published.layout import PublishedModel
from rankport.protos.errors import CheckpointError

_ADAPTED = re.compile(r"(?P<layer>.*)\.parametrizations\.weight\.(?:original|0\.lora_[AB])")
_TABLE = "_embeddings"  # ending of layers whose weight has a row for each id


@dataclass(frozen=True, slots=True)
class _Part:
    """One of `count` equal parts of a stored tensor, from the top."""

    stored: str
    place: int
    count: int
    adapted: str | None = None  # layer whose weight it is, if that has adapters
    order: tuple[int, ...] | None = None  # of the stored rows, before the parts are taken


class RenamedTensors(StoredTensors):
    """Tensors of the class, each read off the stored one that it is part of."""

    def __init__(self, stored: StoredTensors, model: PublishedModel, task: str | None) -> None:
        """Raises CheckpointError for a tensor that cannot be taken apart, or a name that two have."""
        super().__init__(())
        self.files = stored.files
        self._notes = stored._notes
        self.stored, self._adapters, self._task = stored, model.adapters, task
        self._parts: dict[str, _Part] = {}
        for name in stored:
            match = None if model.adapters is None else _ADAPTED.fullmatch(name)
            if match is None:
                self._add(name, name, model, None)
            elif name.endswith(".original"):
                self._add(name, f"{match['layer']}.weight", model, match["layer"])
            elif f"{match['layer']}.parametrizations.weight.original" not in stored:
                self._add(name, name, model, None)  # which has no place
        if model.adapters is not None and not any(part.adapted for part in self._parts.values()):
            raise CheckpointError(
                "config.json: lora_adaptations names tasks, and no tensor is an adapter: set lora_adaptations to null "
                "if the model has none"
            )

    def read(self, name: str) -> Tensor:
        """Reads a tensor as stored, or with its adapter in fp32. Raises CheckpointError where no task is named."""
        part = self._parts[name]
        whole = self.stored.read(part.stored) if part.adapted is None else self._merged(part.adapted)
        ordered = whole if part.order is None else whole[torch.tensor(part.order)]
        return ordered.chunk(part.count)[part.place]

    def _add(self, stored: str, name: str, model: PublishedModel, adapted: str | None) -> None:
        places = model.tensors.places(name)
        shape, count = self.stored.shape(stored), len(places)
        if not places:
            return  # which the layout leaves out, and says so
        if not shape or shape[0] % count:
            raise CheckpointError(
                f"tensor {stored!r} has shape {list(shape)}, and holds {count} of equal size, one below the other: "
                "copy the checkpoint again"
            )
        order = model.tensors.order(name)
        if order is not None and len(order) != shape[0]:
            raise CheckpointError(
                f"tensor {stored!r} has shape {list(shape)}, the sizes of config.json expect {len(order)} rows"
            )
        for place, part in enumerate(places):
            if part in self._parts:
                raise CheckpointError(
                    f"tensors {self._parts[part].stored!r} and {stored!r} are both {part!r}"
                )
            self._parts[part] = _Part(stored, place, count, adapted, order)
            self._shapes[part] = (shape[0] // count, *shape[1:]) if count > 1 else shape
            self._dtypes[part] = self.stored._dtypes[stored]

    def _merged(self, layer: str) -> Tensor:
        """Adds a task's adapter to a weight, in fp32: B A of a layer, A B of a table, times alpha by rank."""
        assert self._adapters is not None
        task, beside = self._adapters.place(self._task), f"{layer}.parametrizations.weight"
        weight = self.stored.read(f"{beside}.original").to(torch.float32)
        down, up = (self._adapter(f"{beside}.0.lora_{name}") for name in "AB")
        first, second = (down, up) if layer.endswith(_TABLE) else (up, down)
        rank, count = self._adapters.rank, len(self._adapters.names)
        expected = ((count, weight.shape[0], rank), (count, rank, weight.shape[1]))
        if (tuple(first.shape), tuple(second.shape)) != expected:
            raise CheckpointError(
                f"adapters of {layer!r} have the shapes {list(first.shape)} and {list(second.shape)}: {count} tasks "
                f"of rank {rank} of config.json need {list(expected[0])} and {list(expected[1])}"
            )
        return torch.addmm(weight, first[task].float(), second[task].float(), alpha=self._adapters.scaling)

    def _adapter(self, name: str) -> Tensor:
        if name not in self.stored:
            raise CheckpointError(f"the checkpoint lacks tensor {name!r}: copy it again")
        return self.stored.read(name)
