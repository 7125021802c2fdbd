"""NeoBERT (code of chandar-lab/NeoBERT): EuroBERT's maths, with queries, keys and values of a head in one matrix.

A head's channels are rotated in pairs of neighbours there, of which transformers rotates the first half against the
second: rows of queries and keys are put in that order.
"""

from collections.abc import Collection
from typing import Final

from rankport.exporters.checkpoints.published.classes.neobert_config import BODY, CLASSIFIER, MODEL_TYPE
from rankport.exporters.checkpoints.published.layout import (
    SIZES,
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    number_of,
    renamed_class,
    tensor_names,
)
from rankport.protos.errors import CheckpointError

CODE: Final = "chandar-lab/NeoBERT"
_CLASSES = {
    "NeoBERT": BODY,
    "NeoBERTLMHead": "NeoBertForMaskedLM",
    "NeoBERTForSequenceClassification": CLASSIFIER,
}
_OTHERS = ("NeoBERTConfig", "NeoBERTForTokenClassification", "NeoBERTForQuestionAnswering")
_THETA = 10_000.0
_ROUNDED = 8  # to a multiple of which two thirds of intermediate_size are
_FIELDS = FieldTable(
    needed=(*SIZES, "norm_eps", "max_length"),
    renamed={"norm_eps": "rms_norm_eps", "max_length": "max_position_embeddings"},
    values={
        "hidden_act": ("SwiGLU", "swiglu"),
        "rms_norm": (True,),
        "rope": (True,),
        "ngpt": (False,),
    },
    unread=(
        *("intermediate_size", "dim_head"),  # read below, or made of two others
        *("embedding_init_range", "encoder_init_range", "decoder_init_range", "classifier_init_range"),
        *("classifier_dropout", "dropout", "base_scale", "flash_attention"),
        "kwargs",  # what its config was made of, once more
    ),
    foreign=(
        *("rope_parameters", "rope_theta", "rope_scaling", "head_dim", "num_key_value_heads"),
        *("attention_bias", "mlp_bias", "classifier_pooling"),
    ),
)
_WIDTHS = ("hidden_size", "num_attention_heads", "intermediate_size")
_LAYER = r"transformer_encoder\.(\d+)\."


def _matches(raw: Fields, tensors: Collection[str]) -> bool:
    return raw.get("model_type") == "neobert"


def _read(raw: Fields) -> PublishedModel:
    fields = _FIELDS.translate(raw, CODE)
    width, heads, inner = (int(number_of(raw, name)) for name in _WIDTHS)
    if width % (2 * heads):
        raise CheckpointError(
            f"config.json: hidden_size {width} is no even multiple of num_attention_heads {heads}: state them as the "
            "model was trained"
        )
    fields |= {
        "model_type": MODEL_TYPE,
        "architectures": renamed_class(raw, _CLASSES, CODE),
        "hidden_act": "silu",
        "intermediate_size": -(-int(2 * inner / 3) // _ROUNDED) * _ROUNDED,
        "rope_parameters": {"rope_type": "default", "rope_theta": _THETA},
    }
    packed = rf"{_LAYER}qkv\.weight"
    names = tensor_names(
        "model.",
        {
            packed: tuple(f"layers.{{0}}.self_attn.{name}_proj.weight" for name in "qkv"),
            rf"{_LAYER}wo\.weight": "layers.{0}.self_attn.o_proj.weight",
            rf"{_LAYER}ffn\.w12\.weight": (
                "layers.{0}.mlp.gate_proj.weight",
                "layers.{0}.mlp.up_proj.weight",
            ),
            rf"{_LAYER}ffn\.w3\.weight": "layers.{0}.mlp.down_proj.weight",
            rf"{_LAYER}attention_norm\.weight": "layers.{0}.input_layernorm.weight",
            rf"{_LAYER}ffn_norm\.weight": "layers.{0}.post_attention_layernorm.weight",
            r"encoder\.weight": "embed_tokens.weight",
            r"layer_norm\.weight": "norm.weight",
        },
        {packed: _rows(heads, width // heads)},
    )
    return PublishedModel(fields, names, classes=frozenset((BODY, CLASSIFIER)))


def _rows(heads: int, width: int) -> tuple[int, ...]:
    """Orders the rows of one matrix: all queries, keys, then values, where a head's lie beside each other.

    Of a head's queries and keys the channels of even place come before the odd ones.
    """
    turned = (*range(0, width, 2), *range(1, width, 2))
    channels = (turned, turned, tuple(range(width)))
    return tuple(
        (3 * head + part) * width + channel
        for part, within in enumerate(channels)
        for head in range(heads)
        for channel in within
    )


LAYOUT: Final = PublishedLayout(CODE, frozenset((*_CLASSES, *_OTHERS)), _matches, _read)
