"""Names of the heads that transformers puts on a body: a bare body may be loaded from a checkpoint that has one.

Owns the names, which say what may be left out, and a doubt about those of a head's labels. Whatever else is stored and
has no place is an error.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_HEADS = re.compile(
    r"(?:[a-z_0-9]+\.)??"  # the name that the body has inside, which some heads are stored below
    r"(?P<head>lm_head|score|classifier|pooler|cls|qa_outputs|embed_out|v_head|value_head"
    r"|pre_classifier|vocab_transform|vocab_layer_norm|vocab_projector"  # DistilBERT
    r"|generator_predictions|generator_lm_head|discriminator_predictions"  # ELECTRA
    r"|predictions|sop_classifier"  # ALBERT
    r"|lm_predictions|mask_predictions"  # DeBERTa
    r"|sequence_summary|logits_proj"  # XLM, FlauBERT, XLNet
    r"|pred_layer|lm_transform_head|classification_head|multiple_choice_head|final_logits_bias"
    r"|head|decoder(?=\.(?:weight|bias)$))"  # ModernBERT
    r"(?:\..*)?"
)
COLBERT, PROJECTION = "HF_ColBERT", "linear.weight"
"""Stanford's class, and the projection that it stores beside the tensors of its body."""
WITHOUT_PROJECTION = f"left out: {PROJECTION} of ColBERT, no part of the body"
_LAYER = re.compile(r"(?:.*\.)?layers?\.\d+\..*")


def head_name(tensor: str) -> str | None:
    """Names the head that a stored tensor belongs to by its name; None if it is part of a body, or of nothing known."""
    if _LAYER.fullmatch(tensor):
        return None
    match = _HEADS.fullmatch(tensor)
    return match["head"] if match else None


def left_out(tensors: Iterable[str]) -> tuple[str, ...]:
    """Says which heads of a checkpoint a bare body leaves out."""
    counts = Counter(part for tensor in tensors if (part := head_name(tensor)) is not None)
    return tuple(
        f"left out: {part}, {count} tensor{'s' if count > 1 else ''}, no part of the body"
        for part, count in counts.items()
    )


def labels_apart(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Notes a label that `label2id` of a config.json has at another output than `id2label`, which is what counts."""
    names, places = raw.get("id2label"), raw.get("label2id")
    if not isinstance(names, dict) or not isinstance(places, dict):
        return ()
    named = ((place, str(name)) for place, name in names.items())
    apart = ((place, name) for place, name in named if str(places.get(name, place)) != str(place))
    return tuple(
        f"config.json: label {name!r} is output {place} by id2label, which is read as transformers does, and "
        f"{places[name]} by label2id"
        for place, name in itertools.islice(apart, 1)
    )
