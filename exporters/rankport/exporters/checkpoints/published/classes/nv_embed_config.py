"""`NvEmbedConfig`: NV-Embed, a Mistral that reads both ways, and whose states attend to latents that were trained."""

from typing import Final

import transformers
from huggingface_hub.dataclasses import strict
from transformers import MistralConfig

MODEL_TYPE: Final = "nv_embed"
CLASS: Final = "NvEmbedModel"


@strict
class NvEmbedConfig(MistralConfig):  # type: ignore[no-untyped-call]
    """Fields of a Mistral, and the sizes of the attention to latents. `is_causal` is transformers' own word."""

    model_type = MODEL_TYPE
    is_causal: bool = False
    latents: int = 512
    latent_heads: int = 8
    latent_head_width: int = 4096

    def validate_latents(self) -> None:
        """Raises ValueError for sizes of nothing."""
        for name in ("latents", "latent_heads", "latent_head_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be 1 or more")


transformers.AutoConfig.register(MODEL_TYPE, NvEmbedConfig, exist_ok=True)
