"""`JinaBertConfig`: Jina's BERT, with ALiBi and gated MLPs; transformers has none of it."""

from typing import Final

import transformers
from huggingface_hub.dataclasses import strict
from transformers import BertConfig

MODEL_TYPE: Final = "jina_bert"
BODY: Final = "JinaBertModel"
CLASSIFIER: Final = "JinaBertForSequenceClassification"
GATES: Final = ("geglu", "reglu")


@strict
class JinaBertConfig(BertConfig):  # type: ignore[no-untyped-call]
    """Fields of BERT, and two of the layers."""

    model_type = MODEL_TYPE
    feed_forward_type: str = "geglu"
    qk_norms: bool = False  # of queries and keys over all heads, and one norm more a layer

    def validate_layers(self) -> None:
        """Raises ValueError for what the published classes do not compute."""
        if self.feed_forward_type not in GATES:
            raise ValueError(
                f"feed_forward_type is {self.feed_forward_type!r}, must be one of {', '.join(GATES)}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}"
            )


transformers.AutoConfig.register(MODEL_TYPE, JinaBertConfig, exist_ok=True)
