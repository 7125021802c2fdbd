"""Checkpoints in a published layout of a class that transformers has by other names: filled by its names, strictly."""

from rankport.exporters.checkpoints.forms.fill import fill
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.skeleton import skeleton


def matches(folder: CheckpointFolder) -> bool:
    """Takes such a folder in full precision."""
    return folder.published is not None and folder.quantization_method is None


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the tensor or field at fault."""
    model = skeleton(parse_config(folder), head)
    if head == "none" and not any(name.startswith("pooler.") for name in folder.tensors):
        model.pooler = None  # type: ignore[assignment] # which no state goes through
    return LoadedModel(fill(model, folder, head))
