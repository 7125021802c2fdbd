"""Jina's XLM-RoBERTa as it is published: Wqkv of a mixer, norms outside, adapters as parametrizations."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from support.published.folders import (
    HEADS,
    INNER,
    LAYERS,
    VOCABULARY,
    WIDTH,
    layer_of,
    norms,
    stored,
    with_bias,
    write_folder,
)
from support.published.maths import attended, frequencies, linear, norm
from support.sentence_folders import state_modules, write

TASKS = {
    "retrieval.query": "query of the engineer ",
    "retrieval.passage": "item for the engineer ",
    "separation": "",
    "text-matching": "",
}
POSITIONS, RANK, ALPHA = 66, 4, 2
_CODE = "jinaai/xlm-roberta-flash-implementation"
_SIZES = {
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 1,
    "classifier_dropout": None,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": WIDTH,
    "initializer_range": 0.02,
    "intermediate_size": INNER,
    "layer_norm_eps": 1e-05,
    "model_type": "xlm-roberta",
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "output_past": True,
    "pad_token_id": 0,
    "type_vocab_size": 1,
    "use_flash_attn": True,
    "vocab_size": VOCABULARY,
    "lora_dropout_p": 0.0,
    "lora_main_params_trainable": False,
}
RERANKER: dict[str, Any] = _SIZES | {
    "architectures": ["XLMRobertaForSequenceClassification"],
    "auto_map": {
        "AutoConfig": "configuration_xlm_roberta.XLMRobertaFlashConfig",
        "AutoModel": "modeling_xlm_roberta.XLMRobertaModel",
        "AutoModelForSequenceClassification": "modeling_xlm_roberta.XLMRobertaForSequenceClassification",
    },
    "emb_pooler": None,
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "load_trained_adapters": False,
    "lora_adaptations": None,
    "lora_alpha": 1,
    "lora_rank": 4,
    "matryoshka_dimensions": None,
    "max_position_embeddings": POSITIONS,
    "position_embedding_type": "absolute",
    "torch_dtype": "bfloat16",
    "truncate_dim": None,
    "use_cache": False,
}
ENCODER: dict[str, Any] = _SIZES | {
    "architectures": ["XLMRobertaModel"],
    "auto_map": {
        "AutoConfig": f"{_CODE}--configuration_xlm_roberta.XLMRobertaFlashConfig",
        "AutoModel": f"{_CODE}--modeling_lora.XLMRobertaLoRA",
        "AutoModelForMaskedLM": f"{_CODE}--modeling_xlm_roberta.XLMRobertaForMaskedLM",
    },
    "emb_pooler": "mean",
    "load_trained_adapters": True,
    "lora_adaptations": list(TASKS),
    "lora_alpha": ALPHA,
    "lora_rank": RANK,
    "matryoshka_dimensions": [8, 16, 32],
    "max_position_embeddings": POSITIONS,
    "position_embedding_type": "rotary",
    "rotary_emb_base": 20000.0,
    "task_instructions": TASKS,
    "torch_dtype": "bfloat16",
    "truncate_dim": None,
    "use_cache": True,
    "use_reentrant": False,
}
_LINEAR = {
    "mixer.Wqkv": (3 * WIDTH, WIDTH),
    "mixer.out_proj": (WIDTH, WIDTH),
    "mlp.fc1": (INNER, WIDTH),
    "mlp.fc2": (WIDTH, INNER),
}


def jina_reranker(folder: Path, **fields: Any) -> Path:
    """A cross-encoder, as jina-reranker-v2-base-multilingual is."""
    layer = with_bias(**{name.replace(".", "__"): shape for name, shape in _LINEAR.items()})
    shapes = {
        "embeddings.word_embeddings.weight": (VOCABULARY, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (1, WIDTH),
        **norms("emb_ln"),
        **layer_of("encoder.layers", layer | norms("norm1", "norm2")),
    }
    named = {f"roberta.{name}": shape for name, shape in shapes.items()}
    named |= with_bias(classifier__dense=(WIDTH, WIDTH), classifier__out_proj=(1, WIDTH))
    return write_folder(folder, RERANKER | fields, named, dtype=torch.bfloat16)


def jina_encoder(folder: Path, **fields: Any) -> Path:
    """An encoder with an adapter for each task and the files of sentence-transformers, as jina-embeddings-v3 is."""
    shapes = _adapted("embeddings.word_embeddings", (VOCABULARY, WIDTH), table=True)
    shapes |= _adapted("embeddings.token_type_embeddings", (1, WIDTH), table=True) | norms("emb_ln")
    layer = norms("norm1", "norm2")
    for name, shape in _LINEAR.items():
        layer |= _adapted(name, shape)
    shapes |= layer_of("encoder.layers", layer) | _adapted("pooler.dense", (WIDTH, WIDTH))
    write_folder(folder, ENCODER | fields, {f"roberta.{name}": shape for name, shape in shapes.items()})
    state_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    entries = [
        {"idx": 0, "name": "transformer", "path": "", "type": "custom_st.Transformer", "kwargs": ["task"]},
        {"idx": 1, "name": "pooler", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {
            "idx": 2,
            "name": "normalizer",
            "path": "2_Normalize",
            "type": "sentence_transformers.models.Normalize",
        },
    ]
    write(folder, "modules.json", entries)
    write(
        folder, "1_Pooling/config.json", {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    )
    settings = {"prompts": TASKS, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write(folder, "config_sentence_transformers.json", settings)
    return folder


def _adapted(name: str, shape: tuple[int, int], *, table: bool = False) -> dict[str, tuple[int, ...]]:
    """Weight, adapters and bias of a layer. Of a table A has its rows, of a linear layer its inputs."""
    beside, tasks = f"{name}.parametrizations.weight", len(TASKS)
    first, second = (shape[0], RANK), (RANK, shape[1])
    down, up = (first, second) if table else (second, first)
    adapters = {
        f"{beside}.original": shape,
        f"{beside}.0.lora_A": (tasks, *down),
        f"{beside}.0.lora_B": (tasks, *up),
    }
    return adapters if table else adapters | {f"{name}.bias": shape[:1]}


def jina_states(folder: Path, ids: list[int], task: str | None = None) -> Tensor:
    """States of a text. [tokens, width]"""
    config, tensors = stored(folder)
    tensors = {name.removeprefix("roberta."): tensor for name, tensor in tensors.items()}
    if task is not None:
        tensors = _with_adapter(tensors, config["lora_adaptations"].index(task), ALPHA / RANK)
    eps, heads = config["layer_norm_eps"], config["num_attention_heads"]
    states = (
        tensors["embeddings.word_embeddings.weight"][ids]
        + tensors["embeddings.token_type_embeddings.weight"][0]
    )
    inverse = None
    if config["position_embedding_type"] == "rotary":
        inverse = frequencies(config["rotary_emb_base"], WIDTH // heads)
    else:  # counted from the place behind the padding's on
        places = torch.arange(len(ids)) + config["pad_token_id"] + 1
        states = states + tensors["embeddings.position_embeddings.weight"][places]
    states = norm(tensors, "emb_ln", states, eps)
    for place in range(config["num_hidden_layers"]):
        layer = f"encoder.layers.{place}"
        packed = linear(tensors, f"{layer}.mixer.Wqkv", states)
        mixed = linear(tensors, f"{layer}.mixer.out_proj", attended(packed, heads, inverse))
        states = norm(tensors, f"{layer}.norm1", states + mixed, eps)
        fed = linear(
            tensors, f"{layer}.mlp.fc2", functional.gelu(linear(tensors, f"{layer}.mlp.fc1", states))
        )
        states = norm(tensors, f"{layer}.norm2", states + fed, eps)
    return states


def jina_logits(folder: Path, ids: list[int]) -> Tensor:
    """Logits of a pair. [labels]"""
    _, tensors = stored(folder)
    first = jina_states(folder, ids)[:1]
    return linear(tensors, "classifier.out_proj", torch.tanh(linear(tensors, "classifier.dense", first)))[0]


def _with_adapter(tensors: dict[str, Tensor], task: int, scaling: float) -> dict[str, Tensor]:
    made = dict(tensors)
    for name in tensors:
        layer, _, part = name.partition(".parametrizations.weight.")
        if part == "original":
            down, up = (tensors[f"{layer}.parametrizations.weight.0.lora_{letter}"][task] for letter in "AB")
            change = down @ up if "embeddings" in layer else up @ down
            made[f"{layer}.weight"] = tensors[name] + change * scaling
    return made
