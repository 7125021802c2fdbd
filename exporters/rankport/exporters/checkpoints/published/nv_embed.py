"""NVIDIA's NV-Embed-v1 and -v2: a Mistral made to read both ways, and attention to latents behind it.

config.json has two configs inside: of the Mistral, and of the latents, whose sizes have the code's defaults.
"""

from collections.abc import Collection
from typing import Final

from rankport.exporters.checkpoints.published.classes.nv_embed_config import CLASS, MODEL_TYPE
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

CODE: Final = "nvidia/NV-Embed-v2"
_TYPE, _PUBLISHED = "nvembed", "NVEmbedModel"
_TEXT, _LATENT = "text_config", "latent_attention_config"
_INSIDE = {_TEXT: "bidir_mistral", _LATENT: "latent_attention"}
_OUTER = FieldTable(
    needed=(_TEXT, _LATENT),
    values={"mask_type": ("b",)},
    unread=(
        *(_TEXT, _LATENT, "hidden_size"),
        # of the code's own encode: how it pads, what it puts behind a text (told where frames are), what it pools
        *("add_eos", "add_pad_token", "is_mask_instruction", "padding_side"),
    ),
)
_MISTRAL = FieldTable(
    needed=(*SIZES, "num_key_value_heads", "rms_norm_eps"),
    unread=("sliding_window", "architectures", "_attn_implementation"),  # a window that its mask has not
    foreign=("is_causal",),
)
_LATENTS = FieldTable(
    needed=(),
    renamed={
        "num_latents_value": "latents",
        "num_cross_heads": "latent_heads",
        "cross_dim_head": "latent_head_width",
    },
    # normalized where the code pools, which a module of the folder does here
    unread=("hidden_dim", "latent_dim", "output_normalize", "model_type", "_name_or_path"),
)
_SIZE = 4096  # of what the config of the latents does not say, but for their number and heads
_DEFAULTS = {"latents": 512, "latent_heads": 8, "latent_head_width": _SIZE}
_BLOCK = r"latent_attention_model\.cross_attend_blocks\."
_NAMES = tensor_names(
    "embedding_model.",
    {
        r"latent_attention_model\.latents": "latent_attention.latents",
        rf"{_BLOCK}0\.norm\.(weight|bias)": "latent_attention.norm_states.{0}",
        rf"{_BLOCK}0\.norm_context\.(weight|bias)": "latent_attention.norm_latents.{0}",
        rf"{_BLOCK}0\.fn\.to_q\.weight": "latent_attention.query.weight",
        rf"{_BLOCK}0\.fn\.to_kv\.weight": ("latent_attention.key.weight", "latent_attention.value.weight"),
        rf"{_BLOCK}0\.fn\.to_out\.weight": "latent_attention.out.weight",
        rf"{_BLOCK}1\.norm\.(weight|bias)": "latent_attention.norm_mixed.{0}",
        rf"{_BLOCK}1\.fn\.net\.0\.(weight|bias)": ("latent_attention.up.{0}", "latent_attention.gate.{0}"),
        rf"{_BLOCK}1\.fn\.net\.2\.(weight|bias)": "latent_attention.down.{0}",
    },
)


def ends_texts(raw: Fields) -> bool:
    """Tells whether the code's own encode puts an end token behind each text, whatever the tokenizer puts."""
    return raw.get("model_type") == _TYPE and raw.get("add_eos") is not False


def _matches(raw: Fields, tensors: Collection[str]) -> bool:
    return raw.get("model_type") == _TYPE


def _read(raw: Fields) -> PublishedModel:
    outer = _OUTER.translate(raw, CODE)
    mistral, latents = (_inner(raw, name) for name in _INSIDE)
    width = int(number_of(mistral, "hidden_size"))
    for name in ("hidden_dim", "latent_dim"):
        if latents.get(name, _SIZE) != width:
            raise CheckpointError(
                f"config.json: {name} of {_LATENT} is {latents.get(name, _SIZE)!r:.60} ({CODE}'s default where it is "
                f"not said: {_SIZE}), must be the hidden_size of {_TEXT}, {width}"
            )
    fields = _MISTRAL.translate(mistral, CODE) | outer | _DEFAULTS | _LATENTS.translate(latents, CODE)
    fields |= {"model_type": MODEL_TYPE, "is_causal": False, "sliding_window": None}
    fields |= {"architectures": renamed_class(raw, {_PUBLISHED: CLASS}, CODE)}
    note = (
        f"{CLASS} is rankport's own: transformers' Mistral, both ways, and the published attention to latents"
    )
    return PublishedModel(fields, _NAMES, (note,), classes=frozenset((CLASS,)))


def _inner(raw: Fields, name: str) -> Fields:
    """Takes a config inside. Raises CheckpointError for one of another kind."""
    stated = raw[name]
    kind = _INSIDE[name]
    if not isinstance(stated, dict) or stated.get("model_type", kind) != kind:
        raise CheckpointError(
            f"config.json: {name} is {stated!r:.60}, must be an object of the model_type {kind!r}: of {CODE} only that "
            "is computed here"
        )
    return stated


LAYOUT: Final = PublishedLayout(
    CODE,
    frozenset(
        (
            *(_PUBLISHED, "NVEmbedConfig", "LatentAttentionConfig", "LatentAttentionModel"),
            *("BidirectionalMistralConfig", "BidirectionalMistralModel"),
        )
    ),
    _matches,
    _read,
)
