"""Two-tower checkpoints: config.json of `TwoTowerConfig`, and the tensors of its module by name."""

import dataclasses
from typing import Any

from torch import nn

from rankport.exporters.checkpoints.forms.fill import fill
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, parse_config
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.checkpoints.two_tower.config import MODEL_TYPE, BertTower, Place, TwoTowerConfig
from rankport.exporters.checkpoints.two_tower.module import TwoTower
from rankport.protos.errors import CheckpointError


def matches(folder: CheckpointFolder) -> bool:
    """Takes what says that it is a two-tower."""
    return folder.raw.get("model_type") == MODEL_TYPE


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError naming the field or tensor at fault."""
    if head != "towers":
        raise CheckpointError(
            f"checkpoint {str(folder.path)!r} is a two-tower, which has towers and a score of them: export it with "
            "--kind two-tower"
        )
    if folder.quantization_method is not None:
        raise CheckpointError(
            f"config.json: quantization {folder.quantization_method!r} of a two-tower is not supported: export the "
            "model in full precision, with --quantize if low bits are wanted"
        )
    config = TwoTowerConfig.read(folder.raw, folder.path / "config.json")
    bodies = {
        place: _body(folder, place, tower.body)
        for place, tower in config.towers.items()
        if isinstance(tower, BertTower)
    }
    model = TwoTower(config, bodies).eval().requires_grad_(False)
    return LoadedModel(fill(model, folder, head))


def _body(folder: CheckpointFolder, place: Place, raw: dict[str, Any]) -> nn.Module:
    for field in ("auto_map", "quantization_config"):
        if field in raw:
            raise CheckpointError(
                f"{folder.path / 'config.json'}: towers.{place}.body.{field} is not supported: a body is a class of "
                "transformers, in full precision"
            )
    return skeleton(parse_config(dataclasses.replace(folder, raw=raw)), "none")
