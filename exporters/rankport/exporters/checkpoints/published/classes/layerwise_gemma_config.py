"""`LayerwiseGemmaConfig`: bge-reranker-v2.5-gemma2-lightweight up to one of its layers. Its maths are Gemma 2's."""

from typing import Final

import transformers
from huggingface_hub.dataclasses import strict
from transformers import Gemma2Config

MODEL_TYPE: Final = "gemma2_layerwise"
CLASS: Final = "LayerwiseGemmaForSequenceClassification"


@strict
class LayerwiseGemmaConfig(Gemma2Config):  # type: ignore[no-untyped-call]
    """Fields of a Gemma 2, whose cap of logits holds for its scores."""

    model_type = MODEL_TYPE


transformers.AutoConfig.register(MODEL_TYPE, LayerwiseGemmaConfig, exist_ok=True)
