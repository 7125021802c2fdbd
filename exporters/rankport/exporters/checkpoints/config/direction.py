"""Word of a decoder's config on which way its tokens look."""

from collections.abc import Mapping
from typing import Any

from rankport.exporters.checkpoints.bidirectional_llama.config import MODEL_TYPE


def reads_both_ways(fields: Mapping[str, Any]) -> bool:
    """Tells whether tokens see those behind them too: by the model's type, or the fields in which decoders say so."""
    return (
        fields.get("model_type") == MODEL_TYPE
        or fields.get("is_causal") is False
        or fields.get("use_bidirectional_attention") is True
    )
