"""`NeoBertConfig`: NeoBERT. Its maths are EuroBERT's but for the head of labels."""

from typing import Final

import transformers
from huggingface_hub.dataclasses import strict
from transformers import EuroBertConfig

MODEL_TYPE: Final = "neobert_renamed"
BODY: Final = "NeoBertModel"
CLASSIFIER: Final = "NeoBertForSequenceClassification"


@strict
class NeoBertConfig(EuroBertConfig):  # type: ignore[no-untyped-call]
    """Fields of a EuroBERT, whose labels are read at a text's first token."""

    model_type = MODEL_TYPE
    classifier_pooling: str = "bos"


transformers.AutoConfig.register(MODEL_TYPE, NeoBertConfig, exist_ok=True)
