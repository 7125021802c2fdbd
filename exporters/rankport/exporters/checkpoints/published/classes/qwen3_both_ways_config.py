"""`ProjectedQwen3Config`: voyage-4-nano, a Qwen3 that reads both ways and projects its states to another width."""

from typing import Final

import transformers
from huggingface_hub.dataclasses import strict
from transformers import Qwen3Config

MODEL_TYPE: Final = "qwen3_projected"
CLASS: Final = "ProjectedQwen3Model"


@strict
class ProjectedQwen3Config(Qwen3Config):  # type: ignore[no-untyped-call]
    """Fields of a Qwen3, and the width of what it answers. `is_causal` is transformers' own word for both ways."""

    model_type = MODEL_TYPE
    is_causal: bool = False
    projection: int = 2048

    def validate_projection(self) -> None:
        """Raises ValueError for a width of nothing."""
        if self.projection < 1:
            raise ValueError(f"projection is {self.projection}, must be 1 or more")


transformers.AutoConfig.register(MODEL_TYPE, ProjectedQwen3Config, exist_ok=True)
