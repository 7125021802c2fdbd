"""Loading of a compressed-tensors checkpoint, and the layer that tests look at or damage."""

from pathlib import Path

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.quantized import compressed_tensors as loader

LAYER = "model.layers.1.mlp.down_proj"


def load_compressed(folder: Path, head: Head = "lm_head") -> LoadedModel:
    """Loads `folder`, which the loader of compressed-tensors takes for its own."""
    opened = CheckpointFolder.open(folder)
    assert loader.matches(opened)
    return loader.load(opened, head)
