"""Pruned checkpoints, cut out of small ones tensor by tensor, and a decoder forward that owes transformers nothing."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 8  # of the checkpoints that are cut
GROUP = HEADS // KV_HEADS


def prune(
    source: Path,
    out: Path,
    *,
    kv_heads: Mapping[int, int] | None = None,
    intermediate: Mapping[int, int] | None = None,
    layers: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Keeps the last `kv_heads` attention groups and the last `intermediate` neurons of the layers named, and the first
    `layers` layers. `config` overwrites fields of config.json; None removes one. head_dim stays as it is.
    """
    shutil.copytree(source, out)
    tensors = load_file(out / "model.safetensors")
    for layer, kept in (kv_heads or {}).items():
        for part, rows in (("q", kept * GROUP), ("k", kept), ("v", kept)):
            for leaf in ("weight", "bias"):
                cut(tensors, f"model.layers.{layer}.self_attn.{part}_proj.{leaf}", 0, rows * HEAD_DIM)
        cut(tensors, f"model.layers.{layer}.self_attn.o_proj.weight", 1, kept * GROUP * HEAD_DIM)
    for layer, kept in (intermediate or {}).items():
        for part, axis in (("gate", 0), ("up", 0), ("down", 1)):
            cut(tensors, f"model.layers.{layer}.mlp.{part}_proj.weight", axis, kept)
    if layers is not None:
        tensors = {name: tensor for name, tensor in tensors.items() if layer_of(name) < layers}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    edit_config(out, **(config or {}))
    return out


def cut(tensors: dict[str, Tensor], name: str, axis: int, kept: int) -> None:
    """The last `kept` along an axis: the first would hide a model that reads past what it owns."""
    if name in tensors:
        tensors[name] = tensors[name].narrow(axis, tensors[name].shape[axis] - kept, kept).contiguous()


def layer_of(name: str) -> int:
    """The layer that a tensor belongs to; -1 for those of no layer."""
    found = re.search(r"layers\.(\d+)\.", name)
    return int(found[1]) if found else -1


def edit_config(folder: Path, **fields: Any) -> None:
    """Overwrites fields of config.json; None removes one."""
    file = folder / "config.json"
    merged = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({name: value for name, value in merged.items() if value is not None}))


def edit_tensors(folder: Path, changes: Mapping[str, Tensor | None]) -> None:
    """Overwrites, adds or (None) removes stored tensors."""
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def forward(folder: Path, ids: Tensor, *, head_dim: int = HEAD_DIM) -> Tensor:
    """Logits [tokens, vocabulary] of a Llama-shaped decoder (Llama, Mistral, Qwen2, Qwen3) from its stored tensors.

    Heads are counted from the tensors of each layer; head h reads KV head h // (heads / KV heads). Rotary positions as
    in arXiv 2104.09864 with halves rotated, theta 10,000; RMSNorm eps from config.json.
    """
    tensors = load_file(folder / "model.safetensors")
    eps = json.loads((folder / "config.json").read_text())["rms_norm_eps"]
    states = tensors["model.embed_tokens.weight"][ids]
    for layer in range(1 + max(map(layer_of, tensors))):
        own = {
            name.split(f"layers.{layer}.")[1]: tensor
            for name, tensor in tensors.items()
            if layer_of(name) == layer
        }
        states = states + _attention(own, _norm(states, own["input_layernorm.weight"], eps), head_dim, eps)
        normed = _norm(states, own["post_attention_layernorm.weight"], eps)
        gate = torch.nn.functional.silu(normed @ own["mlp.gate_proj.weight"].T)
        states = states + (gate * (normed @ own["mlp.up_proj.weight"].T)) @ own["mlp.down_proj.weight"].T
    head = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"])
    return _norm(states, tensors["model.norm.weight"], eps) @ head.T


def _norm(states: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * states * torch.rsqrt(states.square().mean(-1, keepdim=True) + eps)


def _attention(own: Mapping[str, Tensor], states: Tensor, head_dim: int, eps: float) -> Tensor:
    def project(part: str) -> Tensor:
        flat = states @ own[f"self_attn.{part}_proj.weight"].T
        if f"self_attn.{part}_proj.bias" in own:
            flat = flat + own[f"self_attn.{part}_proj.bias"]
        heads = flat.unflatten(-1, (-1, head_dim))  # [tokens, heads, head_dim]
        norm = own.get(f"self_attn.{part}_norm.weight")
        return heads if norm is None else _norm(heads, norm, eps)

    query, key, value = _rotate(project("q")), _rotate(project("k")), project("v")
    group = query.shape[1] // key.shape[1]
    mixed = []
    for head in range(query.shape[1]):
        scores = query[:, head] @ key[:, head // group].T / head_dim**0.5
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        mixed.append(scores.softmax(-1) @ value[:, head // group])
    return torch.cat(mixed, -1) @ own["self_attn.o_proj.weight"].T


def _rotate(heads: Tensor) -> Tensor:
    tokens, _, width = heads.shape
    angles = torch.arange(tokens)[:, None] * 10_000.0 ** (-torch.arange(0, width, 2) / width)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    low, high = heads.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)
