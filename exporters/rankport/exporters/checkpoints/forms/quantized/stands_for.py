"""Weights stored as codes without a grid of equal steps, which low-bit products need: read as what they stand for.

Owns the view of a folder's tensors in full precision, and the loading of a model from it as from any other. What codes
stand for, each form's loader knows.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from rankport.exporters.checkpoints.forms.fill import fill
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.pruning import pruned
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors

_FIELD = "quantization_config"


@dataclass(frozen=True, slots=True)
class StandsFor:
    """A tensor of full precision, and the stored ones that it is made of."""

    shape: tuple[int, ...]
    parts: tuple[str, ...]
    read: Callable[[], Tensor]  # fp32, of that shape


class _FullPrecision(StoredTensors):
    """The stored tensors, with those in `meant` in place of their parts."""

    def __init__(self, stored: StoredTensors, meant: Mapping[str, StandsFor]) -> None:
        super().__init__(())
        self.files = stored.files
        self._stored = stored
        self._meant = meant
        parts = {part for tensor in meant.values() for part in tensor.parts}
        names = [name for name in stored if name not in parts]
        self._shapes = {name: stored.shape(name) for name in names}
        self._dtypes = {name: stored._dtypes[name] for name in names}
        self._shapes.update({name: tensor.shape for name, tensor in meant.items()})
        self._dtypes.update(dict.fromkeys(meant, "F32"))

    def read(self, name: str) -> Tensor:
        """Reads a tensor as stored, or what its parts stand for. Raises CheckpointError."""
        tensor = self._meant.get(name)
        return self._stored.read(name) if tensor is None else tensor.read()


def load_in_full(
    folder: CheckpointFolder, head: Head, meant: Mapping[str, StandsFor], stored_as: str
) -> LoadedModel:
    """Loads the model with the tensors `meant`, by name, and a note of the words in which they are stored.

    Raises CheckpointError naming the tensor or field at fault.
    """
    raw = {key: value for key, value in folder.raw.items() if key != _FIELD}
    whole = dataclasses.replace(folder, tensors=_FullPrecision(folder.tensors, meant), raw=raw)
    loaded = pruned.load(whole, head) or LoadedModel(fill(skeleton(parse_config(whole), head), whole, head))
    note = f"{stored_as}, and read as the full precision that they stand for"
    return dataclasses.replace(loaded, notes=(*loaded.notes, note))
