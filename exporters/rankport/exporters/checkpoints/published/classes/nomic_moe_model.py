"""Body of nomic-embed-text-v2-moe, for transformers' loaders: experts in every so many layers of Jina v3's body."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, JinaEmbeddingsV3Model
from transformers.activations import ACT2FN

from rankport.exporters.checkpoints.published.classes.nomic_moe_config import NomicMoeConfig


class NomicExperts(nn.Module):
    """MLPs of which a router chooses some for each token: their sum by its weights, and one bias.

    Weights are a softmax over all experts, and are not made to sum to one again. Every expert computes every token.
    """

    def __init__(self, config: NomicMoeConfig) -> None:
        """Makes router and experts, weights undefined."""
        super().__init__()
        self.chosen = config.moe_top_k
        self.router = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        rows = config.num_experts * config.intermediate_size
        # an expert's rows below another's; of the second the transpose is applied
        self.up = nn.Parameter(torch.empty(rows, config.hidden_size))
        self.down = nn.Parameter(torch.empty(rows, config.hidden_size))
        self.bias = nn.Parameter(torch.empty(config.hidden_size))
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, states: Tensor) -> Tensor:
        """Computes states [items, tokens, width] of states."""
        shares = self.router(states).softmax(-1)
        largest, places = torch.topk(shares, self.chosen, dim=-1)
        weights = torch.zeros_like(shares).scatter(-1, places, largest)
        total = self.bias
        ups, downs = (matrix.chunk(shares.shape[-1]) for matrix in (self.up, self.down))
        for expert, (up, down) in enumerate(zip(ups, downs, strict=True)):
            computed = self.activation(functional.linear(states, up)) @ down
            total = total + computed * weights[..., expert, None]
        return total


class NomicMoeModel(JinaEmbeddingsV3Model):  # type: ignore[no-untyped-call]
    """The body: Jina v3's layers, with experts in the place of some of their MLPs."""

    config_class = NomicMoeConfig

    def __init__(self, config: NomicMoeConfig, add_pooling_layer: bool = False) -> None:
        """Makes the body, weights as transformers initializes them."""
        super().__init__(config, add_pooling_layer=add_pooling_layer)
        for place, layer in enumerate(self.layers):
            if config.has_experts(place):
                layer.mlp = NomicExperts(config)


AutoModel.register(NomicMoeConfig, NomicMoeModel, exist_ok=True)
