"""Body of voyage-4-nano, for transformers' loaders: Qwen3's own, and a product behind its last norm."""

from typing import Any

from torch import nn
from transformers import AutoModel, Qwen3Model

from rankport.exporters.checkpoints.published.classes.qwen3_both_ways_config import ProjectedQwen3Config


class ProjectedQwen3Model(Qwen3Model):  # type: ignore[no-untyped-call]
    """The body: transformers masks nothing but padding where `is_causal` is false; each state is projected."""

    config_class = ProjectedQwen3Config

    def __init__(self, config: ProjectedQwen3Config) -> None:
        """Makes the body, weights as transformers initializes them."""
        super().__init__(config)
        self.linear = nn.Linear(config.hidden_size, config.projection, bias=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes last states [items, tokens, projection], as Qwen3Model else."""
        answer = super().forward(*args, **kwargs)
        answer.last_hidden_state = self.linear(answer.last_hidden_state)
        return answer


AutoModel.register(ProjectedQwen3Config, ProjectedQwen3Model, exist_ok=True)
