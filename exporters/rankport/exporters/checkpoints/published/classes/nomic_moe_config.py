"""`NomicMoeConfig`: nomic-embed-text-v2-moe. transformers has all of it but the experts: the rest is Jina v3's body."""

from typing import Final

import transformers
from huggingface_hub.dataclasses import strict
from transformers import JinaEmbeddingsV3Config

MODEL_TYPE: Final = "nomic_bert_moe"
CLASS: Final = "NomicMoeModel"


@strict
class NomicMoeConfig(JinaEmbeddingsV3Config):  # type: ignore[no-untyped-call]
    """Fields of Jina v3's body, and three of the experts."""

    model_type = MODEL_TYPE
    num_experts: int = 8
    moe_top_k: int = 2
    moe_every_n_layers: int = 2

    def validate_experts(self) -> None:
        """Raises ValueError for counts that no router can choose by."""
        if self.moe_every_n_layers < 1:
            raise ValueError(f"moe_every_n_layers is {self.moe_every_n_layers}, must be 1 or more")
        if not 1 <= self.moe_top_k <= self.num_experts:
            raise ValueError(
                f"moe_top_k is {self.moe_top_k}, must be from 1 to the {self.num_experts} of num_experts"
            )

    def has_experts(self, layer: int) -> bool:
        """Tells whether a layer has experts: the second of every `moe_every_n_layers`."""
        return layer % self.moe_every_n_layers == 1


transformers.AutoConfig.register(MODEL_TYPE, NomicMoeConfig, exist_ok=True)
