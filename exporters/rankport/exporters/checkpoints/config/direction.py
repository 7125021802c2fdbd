"""Word of a decoder's config on which way its tokens look."""

from collections.abc import Mapping
from typing import Any


def reads_both_ways(fields: Mapping[str, Any]) -> bool:
    """Tells whether tokens see those behind them too, by the fields in which transformers' decoders say so."""
    return fields.get("is_causal") is False or fields.get("use_bidirectional_attention") is True
