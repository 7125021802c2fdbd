"""The forward pass of an expanded decoder, in plain torch and float64, as the papers and the published format say it.

Shares no code with the exporters or with transformers: what they load and export is measured against this.
    decoder        Llama (arXiv 2302.13971): x += Attention(RMSNorm(x)); x += SwiGLU(RMSNorm(x))
    positions      RoPE (arXiv 2104.09864), the two halves of a head rotated against each other
    experts        Mixtral (arXiv 2401.04088): a mixture of the chosen experts' SwiGLU
    merges, norms  Control LLM (arXiv 2501.10979, linkedin/ControlLLM at 7657b9f), slerp decided for each token
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


class ControlLlmReference:
    """One checkpoint folder."""

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.tensors = {
            name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()
        }

    def logits(self, ids: list[int]) -> Tensor:
        """[tokens, vocabulary]"""
        head = self.tensors.get("lm_head.weight", self.tensors["model.embed_tokens.weight"])
        return self.hidden(ids) @ head.T

    def hidden(self, ids: list[int]) -> Tensor:
        """Final hidden states [tokens, hidden]."""
        x = self.tensors["model.embed_tokens.weight"][torch.tensor(ids)]
        for layer in range(self.config["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            paired = f"{at}pretrained_layer.input_layernorm.weight" in self.tensors
            x = self._pair(x, at) if paired else self._layer(x, at, relaxed=False)
        return self._rms_norm(x, "model.norm")

    def _pair(self, x: Tensor, at: str) -> Tensor:
        p = self._layer(x, f"{at}pretrained_layer.", relaxed=False)
        e = self._layer(x, f"{at}expanded_layer.", relaxed=True)
        method = self.config["expansion"]["merge_method"]
        factor = self.tensors.get(f"{at}interpolation_factor")
        t = None if factor is None else 1 / (1 + torch.exp(-factor))
        if method == "lerp" and t is None:
            return e
        if method in ("lerp", "proj"):
            assert t is not None
            return p + t * (e - p)
        if method == "slerp":
            assert t is not None
            return torch.stack([_slerp(one, other, float(t)) for one, other in zip(p, e, strict=True)])
        if method == "prog":
            assert t is not None
            return (1 - t) * (p @ self.tensors[f"{at}lateral_connection.weight"].T) + t * e
        if method == "moe":
            gate = x @ self.tensors[f"{at}gating.gate_network.0.weight"].T
            chosen = (gate + self.tensors[f"{at}gating.gate_network.0.bias"]).argmax(dim=1)
            return torch.stack([(p, e)[int(which)][token] for token, which in enumerate(chosen)])
        features = x if method == "dlerpin" else torch.cat([p, e], dim=1)
        score = (
            features @ self.tensors[f"{at}interp_weight.fc.weight"].T
            + self.tensors[f"{at}interp_weight.fc.bias"]
        )
        w = torch.sigmoid(score)
        return (1 - w) * p + w * e

    def _layer(self, x: Tensor, at: str, *, relaxed: bool) -> Tensor:
        x = x + self._attention(self._norm(x, f"{at}input_layernorm", relaxed), f"{at}self_attn.")
        y = self._norm(x, f"{at}post_attention_layernorm", relaxed)
        if f"{at}block_sparse_moe.gate.weight" in self.tensors:
            return x + self._mixture(y, f"{at}block_sparse_moe.")
        return x + self._swiglu(y, *(f"{at}mlp.{name}_proj" for name in ("gate", "up", "down")))

    def _swiglu(self, x: Tensor, gate: str, up: str, down: str) -> Tensor:
        gated = self._linear(x, gate)
        return self._linear(gated * torch.sigmoid(gated) * self._linear(x, up), down)

    def _mixture(self, x: Tensor, at: str) -> Tensor:
        """Mixtral (arXiv 2401.04088): a softmax over the logits of the experts chosen weighs what these say."""
        out = torch.zeros_like(x)
        for token, logits in enumerate(self._linear(x, f"{at}gate")):
            best = logits.topk(self.config["num_experts_per_tok"])
            for weight, expert in zip(torch.softmax(best.values, dim=0), best.indices.tolist(), strict=True):
                names = (f"{at}experts.{expert}.{name}" for name in ("w1", "w3", "w2"))
                out[token] += weight * self._swiglu(x[token : token + 1], *names)[0]
        return out

    def _norm(self, x: Tensor, at: str, relaxed: bool) -> Tensor:
        alpha = self.config["expansion"]["interpolation_norm_alpha"] if relaxed else 0
        normal = self._rms_norm(x, at)
        if alpha == 0:
            return normal
        if alpha == -1:
            alpha = (2 * torch.sigmoid(self.tensors[f"{at}.interpolation_factor"]) - 1).clamp(0, 1)
        return alpha * x + (1 - alpha) * normal

    def _rms_norm(self, x: Tensor, at: str) -> Tensor:
        mean = (x**2).mean(dim=1, keepdim=True)
        return self.tensors[f"{at}.weight"] * x / torch.sqrt(mean + self.config["rms_norm_eps"])

    def _attention(self, x: Tensor, at: str) -> Tensor:
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        tokens = len(x)
        q = self._linear(x, f"{at}q_proj").reshape(tokens, heads, -1)
        k = self._linear(x, f"{at}k_proj").reshape(tokens, kv_heads, -1)
        v = self._linear(x, f"{at}v_proj").reshape(tokens, kv_heads, -1)
        q, k = self._rotate(q), self._rotate(k)
        out = []
        for head in range(heads):
            shared = head * kv_heads // heads
            scores = q[:, head] @ k[:, shared].T / q.shape[-1] ** 0.5
            hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
            out.append(torch.softmax(scores.masked_fill(hidden, -torch.inf), dim=1) @ v[:, shared])
        return self._linear(torch.cat(out, dim=1), f"{at}o_proj")

    def _rotate(self, x: Tensor) -> Tensor:
        """[tokens, heads, head_dim], token i by the angles i θ^(-2j / head_dim)."""
        half = x.shape[-1] // 2
        frequency = self.config["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = (torch.arange(len(x))[:, None] * frequency)[:, None, :]
        first, second = x[..., :half], x[..., half:]
        cos, sin = torch.cos(angle), torch.sin(angle)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def _linear(self, x: Tensor, at: str) -> Tensor:
        y = x @ self.tensors[f"{at}.weight"].T
        bias = self.tensors.get(f"{at}.bias")
        return y if bias is None else y + bias


def _slerp(p: Tensor, e: Tensor, t: float) -> Tensor:
    """One token. [hidden]"""
    cos = (p @ e / (p.norm() * e.norm())).clamp(-1, 1)
    theta = torch.acos(cos)
    if theta < 1e-4:
        return (1 - t) * p + t * e
    s = torch.sqrt(1 - cos**2 + 1e-8).clamp(min=1e-6)
    return (torch.sin((1 - t) * theta) * p + torch.sin(t * theta) * e) / s
