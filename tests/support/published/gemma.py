"""BAAI's lightweight Gemma 2 as it is published: heads of one number behind its later layers."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from support import checkpoints
from support.published.folders import change
from support.reading.pair_encoders import pair_tokenizer

GEMMA_LAYERS, FIRST = 3, 1
_CODE = {
    "AutoConfig": "BAAI/bge-reranker-v2.5-gemma2-lightweight--gemma_config.CostWiseGemmaConfig",
    "AutoModel": "BAAI/bge-reranker-v2.5-gemma2-lightweight--gemma_model.CostWiseGemmaModel",
    "AutoModelForCausalLM": "BAAI/bge-reranker-v2.5-gemma2-lightweight--gemma_model.CostWiseGemmaForCausalLM",
}
_STATED: dict[str, Any] = {
    "architectures": ["CostWiseGemmaForCausalLM"],
    "auto_map": _CODE,
    "model_type": "cost_wise_gemma",
    "cache_implementation": "hybrid",
    "hidden_act": "gelu_pytorch_tanh",
    "sliding_window_size": 64,  # beside sliding_window
    "start_layer": FIRST,
    "layer_sep": 1,
    "layer_wise": True,
}
_ADDED = (*_STATED, "cutoff_layer")


def gemma(folder: Path, **fields: Any) -> Path:
    """A lightweight reranker, with a head behind each layer from the first on."""
    shape = {"num_hidden_layers": GEMMA_LAYERS, "head_dim": 12, "sliding_window": 64}
    checkpoints.body(folder, "gemma2", query_pre_attn_scalar=8, **shape)
    file = folder / "model.safetensors"
    tensors = {f"model.{name}": tensor for name, tensor in load_file(file).items()}
    torch.manual_seed(5)
    for place in range(GEMMA_LAYERS - FIRST + 1):
        tensors[f"lm_head.{place}.linear_head.weight"] = 3 * torch.randn(1, 32)
    save_file(tensors, file, {"format": "pt"})
    pair_tokenizer("roberta").save_pretrained(folder)
    return change(
        folder, **(_STATED | {"layer_types": ..., "rope_parameters": ..., "rope_theta": 1e4} | fields)
    )


def gemma_logit(folder: Path, ids: list[int], last: int = GEMMA_LAYERS) -> float:
    """The score of a text at its last token, behind `last` layers of transformers' Gemma 2, by the first head."""
    raw = json.loads((folder / "config.json").read_text())
    fields = {name: value for name, value in raw.items() if name not in _ADDED}
    model = transformers.Gemma2Model(transformers.Gemma2Config(**fields, attn_implementation="eager")).eval()
    tensors = load_file(folder / "model.safetensors")
    heads = [tensors.pop(f"lm_head.{place}.linear_head.weight") for place in range(GEMMA_LAYERS - FIRST + 1)]
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in tensors.items()})
    kept: list[torch.Tensor] = []
    model.layers[last - 1].register_forward_hook(lambda *told: kept.append(told[-1]))
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]), use_cache=False)
        states = model.norm(kept[0])[0, -1]
    logit = float(heads[0][0] @ states)
    cap = raw.get("final_logit_softcapping")
    return logit if cap is None else cap * float(torch.tanh(torch.tensor(logit / cap)))
