"""NV-Embed as it is published: a Mistral that reads both ways, and attention of its states to latents."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from support import checkpoints
from support.published.folders import change
from support.published.maths import linear, norm
from support.reading.pair_encoders import pair_tokenizer

LATENTS, HEADS, HEAD_WIDTH, WIDTH = 6, 2, 20, 32
_MODEL, _BLOCKS = "latent_attention_model", "latent_attention_model.cross_attend_blocks"
_SHAPES = {
    f"{_MODEL}.latents": (LATENTS, WIDTH),
    f"{_BLOCKS}.0.fn.to_q.weight": (HEADS * HEAD_WIDTH, WIDTH),
    f"{_BLOCKS}.0.fn.to_kv.weight": (2 * HEADS * HEAD_WIDTH, WIDTH),
    f"{_BLOCKS}.0.fn.to_out.weight": (WIDTH, HEADS * HEAD_WIDTH),
    f"{_BLOCKS}.1.fn.net.0.weight": (8 * WIDTH, WIDTH),
    f"{_BLOCKS}.1.fn.net.0.bias": (8 * WIDTH,),
    f"{_BLOCKS}.1.fn.net.2.weight": (WIDTH, 4 * WIDTH),
    f"{_BLOCKS}.1.fn.net.2.bias": (WIDTH,),
    **{
        f"{_BLOCKS}.{name}.{part}": (WIDTH,)
        for name in ("0.norm", "0.norm_context", "1.norm")
        for part in ("weight", "bias")
    },
}
_STATED: dict[str, Any] = {
    "add_eos": True,
    "add_pad_token": True,
    "architectures": ["NVEmbedModel"],
    "auto_map": {
        "AutoConfig": "configuration_nvembed.NVEmbedConfig",
        "AutoModel": "modeling_nvembed.NVEmbedModel",
    },
    "hidden_size": WIDTH,
    "is_mask_instruction": True,
    "mask_type": "b",
    "model_type": "nvembed",
    "padding_side": "right",
    "torch_dtype": "float16",
}
_LATENT_CONFIG = {
    "model_type": "latent_attention",
    "num_latents_value": LATENTS,
    "num_cross_heads": HEADS,
    "cross_dim_head": HEAD_WIDTH,
    "hidden_dim": WIDTH,
    "latent_dim": WIDTH,
    "output_normalize": True,
}


def nv_embed(folder: Path, **fields: Any) -> Path:
    """A folder with two configs in its own; `fields` of these are set by `text__` and `latent__`."""
    checkpoints.body(folder, "mistral")
    text = json.loads((folder / "config.json").read_text())
    text |= {"model_type": "bidir_mistral", "sliding_window": 4, "architectures": ["MistralModel"]}
    file = folder / "model.safetensors"
    stored = {f"embedding_model.{name}": tensor for name, tensor in load_file(file).items()}
    torch.manual_seed(7)
    stored |= {name: torch.randn(shape) * 0.2 for name, shape in _SHAPES.items()}
    save_file(stored, file, {"format": "pt"})
    pair_tokenizer("roberta").save_pretrained(folder)
    inside = {"text": text, "latent": dict(_LATENT_CONFIG)}
    for name in [name for name in fields if "__" in name]:
        part, _, field = name.partition("__")
        inside[part][field] = fields.pop(name)
    configs = {"text_config": inside["text"], "latent_attention_config": inside["latent"]}
    (folder / "config.json").write_text("{}")
    return change(folder, **(_STATED | configs | fields))


def nv_embed_states(folder: Path, ids: list[int]) -> Tensor:
    """States of transformers' Mistral under a mask in which all see all, each put through the latents."""
    raw = json.loads((folder / "config.json").read_text())["text_config"]
    left_out = ("model_type", "architectures", "sliding_window", "transformers_version")
    fields = {name: value for name, value in raw.items() if name not in left_out}
    config = transformers.MistralConfig(**fields, sliding_window=None, attn_implementation="eager")
    model = transformers.MistralModel(config).eval()
    tensors = load_file(folder / "model.safetensors")
    own = {name: tensors.pop(name) for name in _SHAPES}
    model.load_state_dict({name.removeprefix("embedding_model."): tensor for name, tensor in tensors.items()})
    everything = torch.zeros(1, 1, len(ids), len(ids))
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids]), attention_mask=everything).last_hidden_state[0]
    cross, fed = f"{_BLOCKS}.0", f"{_BLOCKS}.1"
    context = norm(own, f"{cross}.norm_context", own[f"{_MODEL}.latents"], 1e-5)
    query = linear(own, f"{cross}.fn.to_q", norm(own, f"{cross}.norm", states, 1e-5))
    key, value = linear(own, f"{cross}.fn.to_kv", context).chunk(2, -1)
    parts = (part.view(len(part), HEADS, HEAD_WIDTH).transpose(0, 1) for part in (query, key, value))
    mixed = functional.scaled_dot_product_attention(*parts).transpose(0, 1).reshape(len(ids), -1)
    states = linear(own, f"{cross}.fn.to_out", mixed) + states
    first, gates = linear(own, f"{fed}.fn.net.0", norm(own, f"{fed}.norm", states, 1e-5)).chunk(2, -1)
    return linear(own, f"{fed}.fn.net.2", first * functional.gelu(gates)) + states
