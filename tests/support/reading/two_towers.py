"""Small two-tower checkpoints, their weights drawn at random."""

import json
from pathlib import Path
from typing import Any

import torch

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.two_tower.config import Place, TwoTowerConfig
from rankport.exporters.checkpoints.two_tower.module import TwoTower, bert_tower
from support.checkpoints import VOCABULARY, tiny_tokenizer

VOCAB = VOCABULARY
CNN = {"type": "cnn", "embedding_size": 8, "filters": 12, "windows": [3]}
LSTM = {"type": "lstm", "embedding_size": 8, "hidden_size": 6, "bidirectional": True, "layers": 2}
BERT = "bert"
WIDE: list[dict[str, Any]] = [
    {"name": "bm25", "scaling": "mean-std", "mean": 4.0, "std": 2.5, "nan": 0.0},
    {"name": "length", "scaling": "min-max", "min": 1.0, "max": 300.0},
    {"name": "clicks"},
]
MLP: dict[str, Any] = {"hidden": [10], "activation": "tanh", "outputs": ["relevant"]}


def two_tower(seed: int = 0, **fields: Any) -> TwoTower:
    """Makes a module; fields of its config over those of one shared CNN whose cosine is the score."""
    torch.manual_seed(seed)
    stated: dict[str, Any] = {
        "vocab_size": VOCAB,
        "max_query_tokens": 12,
        "max_item_tokens": 24,
        "towers": {"shared": CNN},
        "interactions": ["cosine"],
        "head": None,
    }
    stated |= fields
    bodies: dict[Place, torch.nn.Module] = {}
    towers = dict(stated["towers"])
    for place, tower in towers.items():
        if tower == BERT:
            bodies[place] = _body()
            towers[place] = bert_tower(bodies[place], pooling="mean").model_dump(exclude_none=True)
    config = TwoTowerConfig.read(stated | {"towers": towers}, Path("config.json"))
    return TwoTower(config, bodies).eval().requires_grad_(False)


def saved(module: TwoTower, folder: Path, *, tokenizer: bool = False, **fields: Any) -> Path:
    """Writes a checkpoint; `fields` replace those of its config.json."""
    module.save(folder)
    if tokenizer:
        tiny_tokenizer().save(str(folder / "tokenizer.json"))
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def loaded(folder: Path) -> TwoTower:
    """Loads the module of a checkpoint."""
    model = load_checkpoint(folder).model
    assert isinstance(model, TwoTower)
    return model


def _body() -> torch.nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    config._attn_implementation = "eager"
    return BertModel(config)
