"""Jina's BERT (code of jinaai/jina-bert-implementation, and jina-bert-v2-qk-post-norm): a class of rankport's own.

jina-embeddings-v2 and jina-reranker-v1. The second repository has norms of queries and keys; its tensors tell it.
"""

from collections.abc import Collection
from typing import Final

from rankport.exporters.checkpoints.published.classes.jina_bert_config import BODY, CLASSIFIER, MODEL_TYPE
from rankport.exporters.checkpoints.published.layout import (
    SIZES,
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    renamed_class,
    tensor_names,
)

_MASKED = "JinaBertForMaskedLM"
_FIELDS = FieldTable(
    needed=(
        *SIZES,
        *("position_embedding_type", "feed_forward_type", "layer_norm_eps", "type_vocab_size"),
        "max_position_embeddings",
    ),
    values={
        "position_embedding_type": ("alibi",),
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
    },
    unread=(
        "attn_implementation",  # how the code computes attention
        "hidden_act",  # of layers without a gate, and of the masked LM's head
        "emb_pooler",  # of the code's own encode, noted below
    ),
    foreign=("qk_norms",),
)
_LAYER = r"encoder\.layer\.(\d+)\."
_TENSORS = tensor_names(
    "bert.",
    {
        rf"{_LAYER}mlp\.gated_layers\.weight": (
            "encoder.layer.{0}.mlp.gate.weight",
            "encoder.layer.{0}.mlp.up.weight",
        ),
        rf"{_LAYER}mlp\.wo\.(weight|bias)": "encoder.layer.{0}.mlp.down.{1}",
        rf"{_LAYER}mlp\.layernorm\.(weight|bias)": "encoder.layer.{0}.norm.{1}",
        rf"{_LAYER}mlp\.up_gated_layer\.weight": (
            "encoder.layer.{0}.mlp.up.weight",
            "encoder.layer.{0}.mlp.gate.weight",
        ),
        rf"{_LAYER}mlp\.down_layer\.(weight|bias)": "encoder.layer.{0}.mlp.down.{1}",
        rf"{_LAYER}layer_norm_1\.(weight|bias)": "encoder.layer.{0}.norm_between.{1}",
        rf"{_LAYER}layer_norm_2\.(weight|bias)": "encoder.layer.{0}.norm.{1}",
    },
)
_AUTO_CLASSES = frozenset(
    f"JinaBert{name}"
    for name in (
        *("Config", "Model", "LMHeadModel", "ForMaskedLM", "ForMultipleChoice", "ForNextSentencePrediction"),
        *("ForPreTraining", "ForQuestionAnswering", "ForSequenceClassification", "ForTokenClassification"),
    )
)


def _layout(code: str, gated: str, *, qk_norms: bool) -> PublishedLayout:
    """Makes the layout of a repository by the name of its gated layers."""

    def matches(raw: Fields, tensors: Collection[str]) -> bool:
        return raw.get("model_type") == "bert" and any(f".mlp.{gated}." in name for name in tensors)

    def read(raw: Fields) -> PublishedModel:
        fields = _FIELDS.translate(raw, code)
        classes = {name: name for name in (BODY, CLASSIFIER, _MASKED)}
        fields |= {"model_type": MODEL_TYPE, "architectures": renamed_class(raw, classes, code)}
        fields |= {"qk_norms": qk_norms}
        notes = [f"{BODY} is rankport's own, of the published maths: transformers has no ALiBi of BERT"]
        if raw.get("emb_pooler") is not None:
            said = f"emb_pooler {raw['emb_pooler']!r}"
            notes.append(f"config.json: {said} is for the code's own encode, and not read")
        return PublishedModel(fields, _TENSORS, tuple(notes), classes=frozenset((BODY, CLASSIFIER)))

    return PublishedLayout(code, _AUTO_CLASSES, matches, read, takes_adapters=True)


LAYOUTS: Final = (
    _layout("jinaai/jina-bert-implementation", "gated_layers", qk_norms=False),
    _layout("jinaai/jina-bert-v2-qk-post-norm", "up_gated_layer", qk_norms=True),
)
