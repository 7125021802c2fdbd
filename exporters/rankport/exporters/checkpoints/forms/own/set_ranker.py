"""Checkpoints of rankers of sets: config.json of `SetRankerConfig`, and the tensors of its module by name."""

from rankport.exporters.checkpoints.forms.fill import fill
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.set_ranker.config import MODEL_TYPE, SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.protos.errors import CheckpointError


def matches(folder: CheckpointFolder) -> bool:
    """Takes what says that it is a ranker of sets."""
    return folder.raw.get("model_type") == MODEL_TYPE


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the field or tensor at fault."""
    if head != "sets":
        raise CheckpointError(
            f"checkpoint {str(folder.path)!r} is a ranker of sets, which reads features, no text: export it with "
            "--kind set-ranker"
        )
    if folder.quantization_method is not None:
        raise CheckpointError(
            f"config.json: quantization {folder.quantization_method!r} of a ranker of sets is not supported: export it "
            "in full precision"
        )
    config = SetRankerConfig.read(folder.raw, folder.path / "config.json")
    model = SetRankerModel(config).eval().requires_grad_(False)
    return LoadedModel(fill(model, folder, head))
