"""BAAI's bge-reranker-v2.5-gemma2-lightweight: a Gemma 2 with a head behind layers from some on, read at one of them.

Its code can also average neighbouring tokens of a passage between layers; that is asked for with each call, is off by
default, and is not computed here: what a passage's tokens become there depends on where the query ends.
"""

from collections.abc import Collection
from typing import Final

from rankport.exporters.checkpoints.published.classes.layerwise_gemma_config import CLASS, MODEL_TYPE
from rankport.exporters.checkpoints.published.layerwise import ONE_LABEL, last_layer, names_up_to
from rankport.exporters.checkpoints.published.layout import (
    SIZES,
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    number_of,
    renamed_class,
)

CODE: Final = "BAAI/bge-reranker-v2.5-gemma2-lightweight"
_TYPE = "cost_wise_gemma"
_PUBLISHED = "CostWiseGemmaForCausalLM"
_LAYERS = ("start_layer", "layer_sep", "num_hidden_layers")
_FIELDS = FieldTable(
    needed=(*SIZES, "num_key_value_heads", "head_dim", "query_pre_attn_scalar", "start_layer", "layer_sep"),
    values={"layer_wise": (True,)},
    unread=(
        *("start_layer", "layer_sep", "cutoff_layer"),  # read below
        "tie_word_embeddings",  # of a head of tokens
        *("num_labels", "id2label", "label2id"),
        "pad_token_id",  # a text is read at its last token, whichever that is
    ),
    foreign=("use_bidirectional_attention", "is_causal"),
)


def _matches(raw: Fields, tensors: Collection[str]) -> bool:
    return raw.get("model_type") == _TYPE


def _read(raw: Fields) -> PublishedModel:
    fields = _FIELDS.translate(raw, CODE)
    first, step, layers = (int(number_of(raw, name)) for name in _LAYERS)
    allowed = range(first, layers + 1, step)
    last = last_layer(raw, allowed, f"from {first} (start_layer) to {layers} in steps of {step} (layer_sep)")
    fields |= {
        "model_type": MODEL_TYPE,
        "architectures": renamed_class(raw, {_PUBLISHED: CLASS}, CODE),
        "num_hidden_layers": last,
        "pad_token_id": None,
        **ONE_LABEL,
    }
    if isinstance(kinds := raw.get("layer_types"), list):
        fields["layer_types"] = kinds[:last]
    note = (
        f"read at layer {last} of {layers}, as cutoff_layer of config.json names one, by the first head, which the "
        "published code has for whatever one layer it is asked for; the layers above and the other heads are left "
        "out, and no tokens are compressed (compress_ratio 1)"
    )
    names = names_up_to(last, layers, 0, len(allowed))
    return PublishedModel(fields, names, (note,), classes=frozenset((CLASS,)))


LAYOUT: Final = PublishedLayout(
    CODE, frozenset(("CostWiseGemmaConfig", "CostWiseGemmaModel", _PUBLISHED)), _matches, _read
)
