"""`BidirectionalLfm2Config`: LFM2.5's encoders, an LFM2 whose attention and convolutions see both ways."""

from typing import Final

import transformers
from huggingface_hub.dataclasses import strict
from transformers import Lfm2Config

MODEL_TYPE: Final = "lfm2_both_ways"
CLASS: Final = "BidirectionalLfm2Model"


@strict
class BidirectionalLfm2Config(Lfm2Config):  # type: ignore[no-untyped-call]
    """Fields of an LFM2. `is_causal` is transformers' own word for attention that sees both ways."""

    model_type = MODEL_TYPE
    is_causal: bool = False


transformers.AutoConfig.register(MODEL_TYPE, BidirectionalLfm2Config, exist_ok=True)
