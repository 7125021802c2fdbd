"""Rerankers that can be read at several of their layers: the one that `cutoff_layer` of config.json names.

The published code takes the layer with each call; its default is the last.
"""

from collections.abc import Collection
from typing import Any

from rankport.exporters.checkpoints.published.layout import Fields, TensorNames, tensor_names
from rankport.protos.errors import CheckpointError

ONE_LABEL = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
"""Fields of a head of one number."""


def last_layer(raw: Fields, allowed: Collection[int], said: str) -> int:
    """Reads the layer whose state is scored; `said` words the allowed ones. Raises CheckpointError for any other."""
    stated: Any = raw.get("cutoff_layer", raw.get("num_hidden_layers"))
    if isinstance(stated, bool) or not isinstance(stated, int) or stated not in allowed:
        raise CheckpointError(
            f"config.json: cutoff_layer is {stated!r:.60}, must be a layer with a head, {said}"
        )
    return stated


def names_up_to(last: int, layers: int, head: int, heads: int) -> TensorNames:
    """Puts a head in its place, and leaves out the others and the layers above `last`."""
    above = "|".join(map(str, range(last, layers))) or "none"
    rows: dict[str, str | tuple[str, ...]] = {
        rf"lm_head\.{head}\.linear_head\.weight": "score.weight",
        rf"lm_head\.(?:{'|'.join(map(str, range(heads)))})\.linear_head\.weight": (),
        rf"(?:model\.)?layers\.(?:{above})\..*": (),
    }
    return tensor_names("", rows)
