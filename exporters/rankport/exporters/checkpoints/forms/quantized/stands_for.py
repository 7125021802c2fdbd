"""Weights stored as codes without a grid of equal steps, which low-bit products need: read as what they stand for.

Owns the loading of a model from them as from any other. What codes stand for, each form's loader knows.
"""

import dataclasses
from collections.abc import Mapping

from rankport.exporters.checkpoints.forms.fill import fill
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.made_tensors import MadeTensor, with_made
from rankport.exporters.checkpoints.forms.pruning import pruned
from rankport.exporters.checkpoints.forms.skeleton import skeleton

_FIELD = "quantization_config"


def load_in_full(
    folder: CheckpointFolder, head: Head, meant: Mapping[str, MadeTensor], stored_as: str
) -> LoadedModel:
    """Loads the model with the tensors `meant`, by name, and a note of the words in which they are stored.

    Raises CheckpointError naming the tensor or field at fault.
    """
    raw = {key: value for key, value in folder.raw.items() if key != _FIELD}
    whole = with_made(dataclasses.replace(folder, raw=raw), meant)
    loaded = pruned.load(whole, head) or LoadedModel(fill(skeleton(parse_config(whole), head), whole, head))
    note = f"{stored_as}, and read as the full precision that they stand for"
    return dataclasses.replace(loaded, notes=(*loaded.notes, note))
