"""Qwen3 made to read both ways by code of its own: voyage-4-nano and pplx-embed-v1 as they are published."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from support import checkpoints
from support.published.folders import change

PROJECTION = 48
_ADDED = ("auto_map", "architectures", "model_type", "use_bidirectional_attention", "num_labels", "id2label")


def voyage(folder: Path, **fields: Any) -> Path:
    """A body below `model.`, and a projection beside it, as wide as there are labels."""
    _body(folder, "model.", {"linear.weight": torch.randn(PROJECTION, 32)})
    code = {"AutoModel": "modeling_qwen3_bidirectional.Qwen3BidirectionalModel"}
    stated = {"architectures": ["Qwen3BidirectionalModel"], "auto_map": code, "num_labels": PROJECTION}
    return change(folder, use_bidirectional_attention=True, **(stated | fields))


def pplx(folder: Path, **fields: Any) -> Path:
    """A body, of a type of its own."""
    _body(folder, "", {})
    code = {"AutoConfig": "configuration.PPLXQwen3Config", "AutoModel": "modeling.PPLXQwen3Model"}
    stated = {"architectures": ["PPLXQwen3Model"], "auto_map": code, "model_type": "bidirectional_pplx_qwen3"}
    return change(folder, use_bidirectional_attention=True, **(stated | fields))


def qwen3_states(folder: Path, ids: list[int]) -> Tensor:
    """States of transformers' Qwen3 under a mask in which all see all, projected where there is a matrix for it."""
    raw = json.loads((folder / "config.json").read_text())
    fields = {name: value for name, value in raw.items() if name not in _ADDED}
    config = transformers.Qwen3Config(**fields, attn_implementation="eager")
    model = transformers.Qwen3Model(config).eval()
    tensors = load_file(folder / "model.safetensors")
    projection = tensors.pop("linear.weight", None)
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in tensors.items()})
    everything = torch.zeros(1, 1, len(ids), len(ids))
    with torch.no_grad():
        states: Tensor = model(input_ids=torch.tensor([ids]), attention_mask=everything).last_hidden_state[0]
    return states if projection is None else states @ projection.T


def _body(folder: Path, prefix: str, beside: dict[str, Tensor]) -> None:
    checkpoints.body(folder, "qwen3", head_dim=20)
    file = folder / "model.safetensors"
    stored = {f"{prefix}{name}": tensor for name, tensor in load_file(file).items()}
    save_file(stored | beside, file, {"format": "pt"})
