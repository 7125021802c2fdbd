"""Folders of learned sparse encoders around a tiny random BERT, written file by file as sentence-transformers does."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM

from support.late_folders import state
from support.sentence_folders import write, write_tokenizer

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*_SPECIAL, *"abcdefgh", "cook", "pilot", "nurse", "query", ":", "ward"]
STATIC = "query_0_SparseStaticEmbedding"
_MODULES = "sentence_transformers.sparse_encoder.modules"
_TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
_POOLING = f"{_MODULES}.splade_pooling.SpladePooling"


def masked_lm(folder: Path) -> Path:
    """Saves a masked LM and its tokenizer, and nothing of sentence-transformers."""
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
        initializer_range=0.3,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    write_tokenizer(folder, WORDS, _SPECIAL, lowercase=True, model_max_length=40)
    return folder


def native(base: Path, folder: Path, pooling: dict[str, Any] | None = None, **config: Any) -> Path:
    """Makes a folder of SparseEncoder, read alike on both sides; `config` goes to its own file."""
    shutil.copytree(base, folder)
    _transformer_settings(folder)
    write(folder, "1_SpladePooling/config.json", pooling or {"pooling_strategy": "max"})
    state(folder, (_TRANSFORMER, ""), (_POOLING, "1_SpladePooling"))
    _config(folder, **config)
    return folder


def legacy(base: Path, folder: Path, **config: Any) -> Path:
    """Makes a folder as version 5 saved it: a module of its own for the masked LM, which says no task."""
    native(base, folder, {"pooling_strategy": "sum", "activation_function": "log1p_relu"}, **config)
    write(folder, "sentence_bert_config.json", {"max_seq_length": 20, "do_lower_case": False})
    models = "sentence_transformers.sparse_encoder.models"
    state(folder, (f"{models}.MLMTransformer", ""), (f"{models}.SpladePooling", "1_SpladePooling"))
    return folder


def routed(base: Path, folder: Path, **config: Any) -> Path:
    """Makes a folder whose queries are weighed token by token, and items read by the masked LM."""
    items = folder / "document_0_Transformer"
    shutil.copytree(base, items)
    _transformer_settings(items)
    write(folder, "document_1_SpladePooling/config.json", {"pooling_strategy": "max"})
    write(folder, f"{STATIC}/config.json", {"frozen": False})
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / file, folder / STATIC)
    torch.manual_seed(4)
    save_file({"weight": torch.rand(len(WORDS))}, folder / STATIC / "model.safetensors")
    types = {
        STATIC: f"{_MODULES}.sparse_static_embedding.SparseStaticEmbedding",
        items.name: _TRANSFORMER,
        "document_1_SpladePooling": _POOLING,
    }
    structure = {"query": [STATIC], "document": [items.name, "document_1_SpladePooling"]}
    own = {"default_route": "document", "allow_empty_key": True, "route_mappings": {}}
    write(folder, "router_config.json", {"types": types, "structure": structure, "parameters": own})
    state(folder, ("sentence_transformers.base.modules.router.Router", ""))
    _config(folder, **config)
    return folder


def _transformer_settings(folder: Path) -> None:
    form = {"text": {"method": "forward", "method_output_name": "logits"}}
    task = {"transformer_task": "fill-mask", "module_output_name": "token_embeddings"}
    write(folder, "sentence_bert_config.json", {**task, "modality_config": form})


def _config(folder: Path, **config: Any) -> None:
    stated = {
        "model_type": "SparseEncoder",
        "__version__": {"sentence_transformers": "6.2.0"},
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": None,
        **config,
    }
    write(folder, "config_sentence_transformers.json", stated)
