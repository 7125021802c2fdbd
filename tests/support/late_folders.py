"""Folders of late interaction around a tiny random BERT, written file by file as their libraries write them."""

import json
import shutil
import string
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

from support.sentence_folders import add_dense, change, write, write_tokenizer

WIDTH, VECTOR = 32, 12
QUERY_TOKENS, ITEM_TOKENS = 10, 14
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[Q] ", "[D] "]
_WORDS = [
    "[unused0]",
    "[unused1]",
    "search",
    "cook",
    "pilot",
    "nurse",
    "ward",
    *"abcdefgh",
    *string.punctuation,
]
_TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
_DENSE = "sentence_transformers.base.modules.dense.Dense"
_NORMALIZE = "sentence_transformers.base.modules.normalize.Normalize"
_MASK = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"


def body(folder: Path) -> Path:
    """Saves a BERT and its tokenizer, which has the marks of PyLate as special tokens."""
    torch.manual_seed(3)
    words = [*_SPECIAL, *_WORDS]
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
        initializer_range=0.3,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    write_tokenizer(folder, words, _SPECIAL, lowercase=True, model_max_length=40)
    return folder


def modern_body(base: Path, folder: Path, *, window: int) -> Path:
    """Saves a ModernBERT of a window of local attention, with the tokenizer of another body."""
    shutil.copytree(base, folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(3)
    config = ModernBertConfig(
        vocab_size=len(_SPECIAL) + len(_WORDS),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=64,
        local_attention=window,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=2,
        cls_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
    )
    ModernBertModel(config).save_pretrained(folder)
    return folder


def native(base: Path, folder: Path, **settings: Any) -> Path:
    """Makes a folder of sentence-transformers' MultiVectorEncoder; `settings` are those beside its transformer."""
    shutil.copytree(base, folder)
    expansion = {"strategy": "fixed", "attend": False, "token": None, "length": QUERY_TOKENS}
    stated = {"document_length": ITEM_TOKENS, "query_expansion": expansion, **settings}
    write(folder, "sentence_bert_config.json", stated)
    named = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    identity = "torch.nn.modules.linear.Identity"
    add_dense(folder, "1_Dense", WIDTH, VECTOR, bias=False, activation_function=identity, **named)
    write(folder, "2_MultiVectorMask/config.json", {"skiplist_words": list(string.punctuation)})
    write(folder, "3_Normalize/config.json", named)
    state(
        folder,
        (_TRANSFORMER, ""),
        (_DENSE, "1_Dense"),
        (_MASK, "2_MultiVectorMask"),
        (_NORMALIZE, "3_Normalize"),
    )
    config = {
        "model_type": "MultiVectorEncoder",
        "__version__": {"sentence_transformers": "6.2.0"},
        "prompts": {"query": "[Q] ", "document": "[D] "},
        "default_prompt_name": None,
        "similarity_fn_name": "maxsim",
    }
    write(folder, "config_sentence_transformers.json", config)
    return folder


def pylate(base: Path, folder: Path, **config: Any) -> Path:
    """Makes a folder of PyLate's ColBERT; `config` goes to its config_sentence_transformers.json, None takes out."""
    shutil.copytree(base, folder)
    write(folder, "sentence_bert_config.json", {"max_seq_length": 31, "do_lower_case": False})
    identity = "torch.nn.modules.linear.Identity"
    add_dense(folder, "1_Dense", WIDTH, VECTOR, bias=False, activation_function=identity, use_residual=False)
    state(folder, ("sentence_transformers.models.Transformer", ""), ("pylate.models.Dense.Dense", "1_Dense"))
    stated = {
        "model_type": "ColBERT",
        "__version__": {"sentence_transformers": "5.1.1"},
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "MaxSim",
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": QUERY_TOKENS,
        "document_length": ITEM_TOKENS,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
        "do_query_expansion": True,
        **config,
    }
    said = {
        name: value for name, value in stated.items() if value is not None or name == "default_prompt_name"
    }
    write(folder, "config_sentence_transformers.json", said)
    return folder


def stanford(base: Path, folder: Path, **metadata: Any) -> Path:
    """Makes a folder of Stanford's ColBERT, whose projection lies beside the body; `metadata` goes to its settings."""
    shutil.copytree(base, folder)
    change(folder, "config.json", architectures=["HF_ColBERT"])
    tensors = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    torch.manual_seed(4)
    tensors["linear.weight"] = torch.randn(VECTOR, WIDTH) * 0.3
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    stated = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_token": "[Q]",
        "doc_token": "[D]",
        "query_maxlen": QUERY_TOKENS,
        "doc_maxlen": ITEM_TOKENS,
        "attend_to_mask_tokens": False,
        "mask_punctuation": True,
        "similarity": "cosine",
        **metadata,
    }
    (folder / "artifact.metadata").write_text(json.dumps(stated))
    return folder


def state(folder: Path, *modules: tuple[str, str]) -> None:
    """Writes modules.json of (class, path) in order."""
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": kind} for i, (kind, path) in enumerate(modules)
    ]
    write(folder, "modules.json", entries)
