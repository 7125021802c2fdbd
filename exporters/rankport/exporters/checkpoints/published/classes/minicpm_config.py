"""`LayerwiseMiniCpmConfig`: bge-reranker-v2-minicpm-layerwise up to one of its layers. Its maths are Granite's."""

from typing import Final

import transformers
from huggingface_hub.dataclasses import strict
from transformers import GraniteConfig

MODEL_TYPE: Final = "minicpm_layerwise"
CLASS: Final = "LayerwiseMiniCpmForSequenceClassification"


@strict
class LayerwiseMiniCpmConfig(GraniteConfig):  # type: ignore[no-untyped-call]
    """Fields of a Granite, which has a class of its own here, since transformers' Granite has no head of labels."""

    model_type = MODEL_TYPE


transformers.AutoConfig.register(MODEL_TYPE, LayerwiseMiniCpmConfig, exist_ok=True)
