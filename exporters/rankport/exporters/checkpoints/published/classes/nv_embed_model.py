"""Body of NV-Embed, for transformers' loaders: Mistral's own, and behind its last norm attention to latents.

Each token by itself attends to the latents (arXiv 2405.17428, section 3.2): what pools is a mean, of a module behind.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, MistralModel

from rankport.exporters.checkpoints.published.classes.nv_embed_config import NvEmbedConfig


class LatentAttention(nn.Module):
    """Attention of states to latents, and an MLP, x gelu(gate), each behind a norm and added to its input."""

    def __init__(self, config: NvEmbedConfig) -> None:
        """Makes it, weights undefined."""
        super().__init__()
        width, self.heads = config.hidden_size, config.latent_heads
        inner = config.latent_heads * config.latent_head_width
        self.latents = nn.Parameter(torch.empty(config.latents, width))
        self.norm_states, self.norm_latents, self.norm_mixed = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, width, bias=False)
        self.up, self.gate = (nn.Linear(width, 4 * width) for _ in range(2))
        self.down = nn.Linear(4 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        """Maps states [items, tokens, width] to the same, a token by itself."""
        latents = self.norm_latents(self.latents)
        query = self._by_head(self.query(self.norm_states(states)))
        key, value = (self._by_head(layer(latents)) for layer in (self.key, self.value))
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        attended = (scores.softmax(-1) @ value).transpose(-2, -3).flatten(-2)
        mixed = states + self.out(attended)
        normed = self.norm_mixed(mixed)
        fed: Tensor = mixed + self.down(self.up(normed) * functional.gelu(self.gate(normed)))
        return fed

    def _by_head(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(-2, -3)  # type: ignore[no-untyped-call, no-any-return]


class NvEmbedModel(MistralModel):  # type: ignore[no-untyped-call]
    """The body: transformers masks nothing but padding where `is_causal` is false; each state attends to latents."""

    config_class = NvEmbedConfig

    def __init__(self, config: NvEmbedConfig) -> None:
        """Makes the body, weights as transformers initializes them."""
        super().__init__(config)
        self.latent_attention = LatentAttention(config)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes last states [items, tokens, width], as MistralModel else."""
        answer = super().forward(*args, **kwargs)
        answer.last_hidden_state = self.latent_attention(answer.last_hidden_state)
        return answer


AutoModel.register(NvEmbedConfig, NvEmbedModel, exist_ok=True)
