"""LFM2.5's encoders as they are published: an LFM2 whose attention and convolutions see both ways."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from support import checkpoints
from support.published.folders import change

_LAYERS = ["conv", "full_attention", "conv"]


def lfm2(folder: Path, prefix: str = "", **fields: Any) -> Path:
    """A body, its tensors below a prefix."""
    shape = {"num_hidden_layers": len(_LAYERS), "layer_types": _LAYERS, "block_auto_adjust_ff_dim": False}
    checkpoints.body(folder, "lfm2", **shape)
    file = folder / "model.safetensors"
    save_file({f"{prefix}{name}": tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    names = ("Lfm2BidirectionalModel", "Lfm2BidirectionalForMaskedLM")
    code = {auto: f"modeling_lfm2_bidirectional.{name}" for auto, name in zip(_AUTO, names, strict=True)}
    return change(folder, **({"architectures": [names[0]], "auto_map": code} | fields))


_AUTO = ("AutoModel", "AutoModelForMaskedLM")


def lfm2_states(folder: Path, ids: list[int]) -> Tensor:
    """States of transformers' LFM2 under a mask in which all see all, each convolution a sum over neighbours."""
    raw = json.loads((folder / "config.json").read_text())
    fields = {
        name: value for name, value in raw.items() if name not in ("auto_map", "architectures", "model_type")
    }
    model = transformers.Lfm2Model(transformers.Lfm2Config(**fields, attn_implementation="eager")).eval()
    stored = load_file(folder / "model.safetensors")
    model.load_state_dict({name.removeprefix("lfm2."): tensor for name, tensor in stored.items()})
    for layer in model.layers:
        if not layer.is_attention_layer:
            layer.conv.forward = _around(layer.conv)
    masks = {"full_attention": torch.zeros(1, 1, len(ids), len(ids)), "conv": None}
    with torch.no_grad():
        states: Tensor = model(input_ids=torch.tensor([ids]), attention_mask=masks, use_cache=False)[0][0]
    return states


def _around(conv: Any) -> Any:
    def forward(hidden_states: Tensor, **_: Any) -> Tensor:
        gate, out, states = conv.in_proj(hidden_states)[0].chunk(3, dim=-1)
        gated, taps = gate * states, conv.conv.weight[:, 0]  # [tokens, width], [width, taps]
        rows = []
        for place in range(len(gated)):
            near = range(place - taps.shape[1] // 2, place + taps.shape[1] // 2 + 1)
            inside = [(tap, token) for tap, token in enumerate(near) if 0 <= token < len(gated)]
            rows.append(sum(gated[token] * taps[:, tap] for tap, token in inside))
        answer: Tensor = conv.out_proj(out * torch.stack(rows))[None]
        return answer

    return forward
