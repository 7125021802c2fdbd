"""A classifier as sentence-transformers lays it out: transformer, mean pooling, Dense layers that end in labels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

_NAMES = {nn.ReLU: "torch.nn.modules.activation.ReLU", nn.Identity: "torch.nn.modules.linear.Identity"}
DenseLayers = Sequence[tuple[nn.Linear, nn.Module]]
"""Linear layers, each with its activation: `nn.ReLU` or `nn.Identity`."""


def mean_states(body: Any, encoded: Any) -> Tensor:
    """Runs a body of transformers on padded texts, and averages the last states of each. [texts, width]"""
    hidden: Tensor = body(**encoded).last_hidden_state
    mask = encoded["attention_mask"][..., None]
    means: Tensor = (hidden * mask).sum(1) / mask.sum(1)
    return means


def logits_of(layers: DenseLayers, states: Tensor) -> Tensor:
    """Takes pooled states through the Dense layers. [texts, labels]"""
    for linear, activation in layers:
        states = activation(linear(states))
    return states


def save_classifier(
    body: Any, tokenizer: Any, layers: DenseLayers, labels: Sequence[str], max_tokens: int, path: Path
) -> Path:
    """Writes the folder. Returns it."""
    body.save_pretrained(path)
    tokenizer.model_max_length = max_tokens
    tokenizer.save_pretrained(path)
    width = body.config.hidden_size
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling")]
    _write(path / "1_Pooling/config.json", {"word_embedding_dimension": width, "pooling_mode": "mean"})
    for number, (linear, activation) in enumerate(layers, 2):
        kinds.append(("Dense", f"{number}_Dense"))
        sizes = {"in_features": linear.in_features, "out_features": linear.out_features, "bias": True}
        place = path / f"{number}_Dense"
        _write(place / "config.json", {**sizes, "activation_function": _NAMES[type(activation)]})
        tensors = {f"linear.{name}": value.detach().contiguous() for name, value in linear.named_parameters()}
        save_file(tensors, place / "model.safetensors")
    modules = [
        {"idx": index, "name": str(index), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, place) in enumerate(kinds)
    ]
    _write(path / "modules.json", modules)
    _write(path / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    _write(path / "config_sentence_transformers.json", {"labels": list(labels)})
    return path


def train_steps(
    parameters: Sequence[dict[str, Any]], steps: int, weight_decay: float = 0.01
) -> tuple[torch.optim.Optimizer, Any]:
    """Makes an optimizer, and a schedule that warms each group's rate up and lets it fall to none."""
    optimizer = torch.optim.AdamW(list(parameters), weight_decay=weight_decay, fused=True)
    rates = [group["lr"] for group in parameters]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps + 1, pct_start=0.2)
    return optimizer, schedule


def _write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
