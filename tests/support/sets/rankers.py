"""Small rankers of sets: checkpoints with every form of feature."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from rankport.exporters.checkpoints.set_ranker.config import SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from support.sets.requests import MOVIE_IDS

EVENT = [
    {"source": "id", "name": "movie", "table": "movie"},
    {"source": "scalar", "name": "rating", "scaling": "mean-std", "mean": 7.0, "std": 2.0, "nan": 6.5},
]
CANDIDATE = [
    {"source": "id", "name": "movie", "table": "movie"},
    {"source": "id", "name": "user", "table": "user"},
    {"source": "dense", "name": "genre", "width": 3},
    {"source": "content", "name": "title", "width": 5},
]
TABLES = {
    "movie": {"rows": 50, "width": 6, "unknown": "zero"},
    "user": {"rows": 11, "width": 4, "lookup": "splitmix64", "seed": 5},
}


def set_config(*blocks: str, policy: str = "set-wise", **fields: Any) -> SetRankerConfig:
    """Makes a config of one small block each."""
    mask = {"policy": policy, "top_k": 3} if policy == "top" else {"policy": policy}
    sets = {"tables": TABLES, "event": EVENT, "candidate": CANDIDATE, "mask": mask, "times": True}
    content: dict[str, Any] = {
        "hidden_size": 16,
        "attention_heads": 2,
        "blocks": list(blocks or ("ligr",)),
        "positions": 8,
        "time_buckets": 20,
        "towers": [
            {"name": "passive", "hidden": [8], "outputs": ["click", "dwell"]},
            {"name": "active", "outputs": ["like"]},
        ],
        "sets": {**sets, "max_events": 32, "max_candidates": 16},
    }
    return SetRankerConfig.model_validate(content | fields)


def set_model(config: SetRankerConfig) -> SetRankerModel:
    """Draws a model whose biases count."""
    torch.manual_seed(0)
    model = SetRankerModel(config)
    for name, weight in model.named_parameters():
        if ".bias.by_" in name:
            nn.init.normal_(weight)
        elif weight.ndim == 1:  # norms at 1, and biases at 0, would hide one that is dropped
            nn.init.normal_(weight, 1.0 if name.endswith("weight") else 0.0, 0.1)
    return model.eval().requires_grad_(False)


def set_checkpoint(folder: Path, *blocks: str, policy: str = "set-wise", keyed: bool = False) -> Path:
    """Writes the checkpoint of a small model; where it is keyed, its movies are known by `MOVIE_IDS`."""
    model = set_model(set_config(*blocks, policy=policy))
    (model.with_ids({"movie": MOVIE_IDS}) if keyed else model).save(folder)
    return folder
