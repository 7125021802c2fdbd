"""Folders of sentence-transformers with a tiny random BERT, written file by file as its releases write them."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from support import text_tokenizers

Make = Callable[[Path, Path], Path]
"""Writes a folder, the second, from a base."""
WIDTH = 32
POSITIONS = 40
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_WORDS = [*_SPECIAL, "query", "passage", ":", *"abcdefgh", "cook", "pilot", "nurse"]


def chat_tokenizer(folder: Path) -> None:
    """Writes a tokenizer of Qwen's form, with the marks that stand around messages of a chat."""
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    (folder / "tokenizer.json").write_text(text_tokenizers.saved("qwen", special=special))
    named = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
    }
    write(folder, "tokenizer_config.json", named)


def bert(folder: Path) -> Path:
    """Saves the model and its tokenizer, which lowercases nothing; no file of sentence-transformers yet."""
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(_WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    write_tokenizer(folder, _WORDS, _SPECIAL)
    return folder


def write_tokenizer(
    folder: Path, words: Sequence[str], special: Sequence[str], *, lowercase: bool = False, **settings: object
) -> None:
    """Writes BERT's tokenizer of whole words, and its config with more settings."""
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    tokenizer.add_special_tokens(list(special))
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **settings, **named}
    write(folder, "tokenizer_config.json", config)


def write(folder: Path, file: str, content: object) -> None:
    """Writes a JSON file, and the folder that it lies in."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(content))


def change(folder: Path, file: str, **values: object) -> None:
    """Sets keys of a JSON object."""
    place = folder / file
    write(folder, file, {**(json.loads(place.read_text()) if place.is_file() else {}), **values})


def then(make: Make, file: str, **values: Any) -> Make:
    """Changes fields of a file in the folders that something makes."""

    def changed(base: Path, folder: Path) -> Path:
        made = make(base, folder)
        change(made, file, **values)
        return made

    return changed


def state_modules(folder: Path, *modules: tuple[str, str]) -> None:
    """Writes modules.json of (class, path) in order."""
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    write(folder, "modules.json", entries)


def pooled(base: Path, folder: Path, pooling: object = "mean", *rest: tuple[str, str]) -> Path:
    """Copies a model and makes it a folder that pools: a mode, several, or a whole config."""
    shutil.copytree(base, folder)
    config = pooling if isinstance(pooling, dict) else {"pooling_mode": pooling}
    write(folder, "1_Pooling/config.json", {"word_embedding_dimension": WIDTH, **config})
    state_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), *rest)
    return folder


def add_dense(folder: Path, path: str, into: int, out: int, **config: Any) -> None:
    """Writes a Dense module of random weights."""
    torch.manual_seed(into + out)
    write(folder, f"{path}/config.json", {"in_features": into, "out_features": out, **config})
    tensors = {"linear.weight": torch.randn(out, into) * 0.3}
    if config.get("bias", True):
        tensors["linear.bias"] = torch.randn(out) * 0.3
    if config.get("use_residual") and into != out:
        tensors["residual.weight"] = torch.randn(out, into) * 0.3
    save_file(tensors, folder / path / "model.safetensors")


def add_norm(folder: Path, path: str, width: int, **config: Any) -> None:
    """Writes a LayerNorm module of random weights."""
    torch.manual_seed(width)
    write(folder, f"{path}/config.json", {"dimension": width, **config})
    tensors = {"norm.weight": 1 + torch.randn(width) * 0.3, "norm.bias": torch.randn(width) * 0.3}
    save_file(tensors, folder / path / "model.safetensors")


def pair_scorer(base: Path, folder: Path, pooling: object = "cls", outputs: int = 1) -> Path:
    """Makes a folder as ettin-reranker's are: pooled, a Dense layer, a LayerNorm, and one that ends in scores."""
    pooled(base, folder, pooling)
    add_dense(
        folder, "2_Dense", WIDTH, 24, bias=False, activation_function="torch.nn.modules.activation.GELU"
    )
    add_norm(folder, "3_LayerNorm", 24)
    scores = {"module_input_name": "sentence_embedding", "module_output_name": "scores"}
    add_dense(
        folder, "4_Dense", 24, outputs, activation_function="torch.nn.modules.linear.Identity", **scores
    )
    behind = [
        ("Dense", "2_Dense"),
        ("LayerNorm", "3_LayerNorm"),
        ("Dropout", "5_Dropout"),
        ("Dense", "4_Dense"),
    ]
    state_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), *behind)
    write(folder, "5_Dropout/config.json", {"dropout": 0.1})
    task = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
    form = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    write(folder, "sentence_bert_config.json", {**task, "modality_config": form, "max_seq_length": 24})
    identity = {"activation_fn": "torch.nn.modules.linear.Identity", "model_type": "CrossEncoder"}
    write(
        folder, "config_sentence_transformers.json", {**identity, "prompts": {}, "default_prompt_name": None}
    )
    return folder


def rich(base: Path, folder: Path) -> Path:
    """Makes a folder that says all at once: paths, limit, prompt, pooling without it, Dense, Normalize, a cut."""
    pooled(base, folder / "0_Transformer")
    change(folder / "0_Transformer", "sentence_bert_config.json", max_seq_length=20)
    pooling = {"pooling_mode": "weightedmean", "include_prompt": False, "embedding_dimension": WIDTH}
    write(folder, "1_Pooling/config.json", pooling)
    add_dense(folder, "2_Dense", WIDTH, 24)
    modules = [("Transformer", "0_Transformer"), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
    state_modules(folder, *modules, ("Normalize", "3_Normalize"))
    config = {"prompts": {"query": "query: a"}, "default_prompt_name": "query", "truncate_dim": 16}
    write(folder, "config_sentence_transformers.json", config)
    return folder
