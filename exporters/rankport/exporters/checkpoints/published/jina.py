"""Jina's XLM-RoBERTa (code of jinaai/xlm-roberta-flash-implementation): transformers' XLM-RoBERTa, or Jina v3.

jina-reranker-v2 has a table of positions, jina-embeddings-v3 rotary ones and an adapter for each task.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

from rankport.exporters.checkpoints.published.layout import (
    SIZES,
    Fields,
    FieldTable,
    PublishedLayout,
    PublishedModel,
    TaskAdapters,
    TensorNames,
    number_of,
    padded_vocabulary,
    renamed_class,
    tensor_names,
)
from rankport.protos.errors import CheckpointError

CODE: Final = "jinaai/xlm-roberta-flash-implementation"
MODULE: Final = "custom_st.Transformer"
"""Module of its folders for sentence-transformers: a Transformer that is told the task in each call."""
_MODEL_TYPE = "xlm-roberta"
_LORA = ("lora_adaptations", "task_instructions", "lora_rank", "lora_alpha")
_FIELDS = FieldTable(
    needed=(
        *SIZES,
        *("position_embedding_type", "layer_norm_eps", "hidden_act", "type_vocab_size", "pad_token_id"),
        "max_position_embeddings",
    ),
    values={
        "rotary_emb_scale_base": (None,),
        "rotary_emb_interleaved": (False, None),
        "rotary_emb_dim": (None,),
        "last_layer_subset": (False, None),
        "fused_mlp": (False, None),
        "truncate_dim": (None,),  # which sentence-transformers does not read: its own config cuts embeddings
    },
    unread=(
        *(
            "fused_bias_fc",
            "fused_dropout_add_ln",
            "use_flash_attn",
            "use_reentrant",
            "matryoshka_dimensions",
        ),
        *("lora_dropout_p", "lora_main_params_trainable", "load_trained_adapters"),
        # read below
        *("position_embedding_type", "rotary_emb_base", "pad_vocab_size_multiple", "emb_pooler", *_LORA),
    ),
    foreign=(
        "rope_parameters",
        "rope_theta",
        "rope_scaling",
        "head_dim",
        "partial_rotary_factor",
        "is_decoder",
    ),
)
_ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh")
_HEADS = ("ForMaskedLM", "ForSequenceClassification")


def _places(layer: str, attention: tuple[str, str, str], places: Mapping[str, str]) -> TensorNames:
    """Makes names of a class: q, k and v first, then the other layers by the code's name."""
    qkv = tuple(f"{layer}.{{0}}.{name}.{{1}}" for name in attention)
    rows: dict[str, str | tuple[str, ...]] = {r"encoder\.layers\.(\d+)\.mixer\.Wqkv\.(weight|bias)": qkv}
    for name, place in places.items():
        rows[rf"encoder\.layers\.(\d+)\.{name}\.(weight|bias)"] = f"{layer}.{{0}}.{place}.{{1}}"
    return tensor_names("roberta.", {**rows, r"emb_ln\.(weight|bias)": "embeddings.LayerNorm.{0}"})


_BY_TABLE = _places(
    "encoder.layer",
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    {
        r"mixer\.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        r"mlp\.fc1": "intermediate.dense",
        r"mlp\.fc2": "output.dense",
        "norm2": "output.LayerNorm",
    },
)
_ROTARY = _places(
    "layers",
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    {
        r"mixer\.out_proj": "self_attn.o_proj",
        "norm1": "post_attention_layernorm",
        r"mlp\.fc1": "mlp.fc1",
        r"mlp\.fc2": "mlp.fc2",
        "norm2": "post_mlp_layernorm",
    },
)


def has_tasks(raw: Fields) -> bool:
    """Tells whether a config.json is one of this code with an adapter for each task."""
    return raw.get("model_type") == _MODEL_TYPE and bool(raw.get("lora_adaptations"))


def _matches(raw: Fields, tensors: Collection[str]) -> bool:
    return raw.get("model_type") == _MODEL_TYPE and any(".mixer.Wqkv." in name for name in tensors)


def _read(raw: Fields) -> PublishedModel:
    fields = _FIELDS.translate(raw, CODE)
    if raw["hidden_act"] not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise CheckpointError(f"config.json: hidden_act is {raw['hidden_act']!r}, {CODE} knows {known}")
    fields |= padded_vocabulary(raw)
    kind = raw["position_embedding_type"]
    if kind not in ("absolute", "rotary"):
        raise CheckpointError(
            f"config.json: position_embedding_type is {kind!r}: of {CODE} 'absolute' and 'rotary' are what "
            "transformers computes, and the code itself is never run: the model cannot be exported"
        )
    family = "XLMRoberta" if kind == "absolute" else "JinaEmbeddingsV3"
    classes = {f"XLMRoberta{head}": f"{family}{head}" for head in ("Model", *_HEADS)}
    classes["XLMRobertaLoRA"] = f"{family}Model"
    fields["architectures"] = renamed_class(raw, classes, CODE)
    adapters = _adapters(raw)
    notes, stood = _notes(raw, adapters), frozenset(classes.values())
    if kind == "absolute":
        return PublishedModel(fields, _BY_TABLE, notes, adapters, stood)
    fields |= {"model_type": "jina_embeddings_v3", "rope_parameters": _rope(raw)}
    return PublishedModel(fields, _ROTARY, notes, adapters, stood)


def _notes(raw: Fields, adapters: TaskAdapters | None) -> tuple[str, ...]:
    notes = []
    if raw.get("emb_pooler") is not None:
        notes.append(
            f"config.json: emb_pooler {raw['emb_pooler']!r} is for the code's own encode, and not read"
        )
    if adapters is not None:
        notes.append(
            f"{MODULE} was not run: it takes white space off both ends of a text, which a bundle does not"
        )
    return tuple(notes)


def _rope(raw: Fields) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": number_of(raw, "rotary_emb_base")}


def _adapters(raw: Fields) -> TaskAdapters | None:
    names, texts, rank, alpha = (raw.get(name) for name in _LORA)
    if names is None:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise CheckpointError(
            f"config.json: lora_adaptations is {names!r:.80}, must be a list of names of tasks"
        )
    if not isinstance(texts, dict) or set(texts) != set(names) or len(set(names)) < len(names):
        raise CheckpointError(
            f"config.json: task_instructions is {texts!r:.80}, must have a text for each of {', '.join(names)} "
            "(lora_adaptations)"
        )
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise CheckpointError(
            f"config.json: lora_rank is {rank!r} and lora_alpha {alpha!r}: must be numbers, the first from 1 on"
        )
    return TaskAdapters(tuple(names), MappingProxyType(texts), rank, alpha / rank)


_AUTO_CLASSES = ("XLMRobertaFlashConfig", "XLMRobertaModel", "XLMRobertaLoRA", "XLMRobertaForPreTraining")
LAYOUT: Final = PublishedLayout(
    CODE,
    frozenset((*_AUTO_CLASSES, *(f"XLMRoberta{head}" for head in _HEADS))),
    _matches,
    _read,
    takes_adapters=True,
)
