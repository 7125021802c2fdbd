"""Tensors that a model has and a folder stores otherwise: made of the stored ones when they are read."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors


@dataclass(frozen=True, slots=True)
class MadeTensor:
    """A tensor of full precision, and the stored ones that it is made of."""

    shape: tuple[int, ...]
    parts: tuple[str, ...]
    read: Callable[[], Tensor]  # fp32, of that shape


def with_made(
    folder: CheckpointFolder, made: Mapping[str, MadeTensor], without: Collection[str] = ()
) -> CheckpointFolder:
    """Gives the folder with the tensors `made`, by name, in place of their parts, and without some."""
    return dataclasses.replace(folder, tensors=_MadeTensors(folder.tensors, made, without))


class _MadeTensors(StoredTensors):
    def __init__(
        self, stored: StoredTensors, made: Mapping[str, MadeTensor], without: Collection[str]
    ) -> None:
        super().__init__(())
        self.files = stored.files
        self._stored = stored
        self._made = made
        parts = {part for tensor in made.values() for part in tensor.parts}.union(without)
        names = [name for name in stored if name not in parts]
        self._shapes = {name: stored.shape(name) for name in names}
        self._dtypes = {name: stored._dtypes[name] for name in names}
        self._shapes.update({name: tensor.shape for name, tensor in made.items()})
        self._dtypes.update(dict.fromkeys(made, "F32"))

    def read(self, name: str) -> Tensor:
        """Reads a tensor as stored, or makes it of its parts. Raises CheckpointError."""
        tensor = self._made.get(name)
        return self._stored.read(name) if tensor is None else tensor.read()
