"""Small random Hugging Face checkpoints, written to disk as users have them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

VOCABULARY = 101
WORDS = [
    "[PAD]",
    "[BOS]",
    "[EOS]",
    "[UNK]",
    "yes",
    "no",
    "query",
    "item",
    "engineer",
    "nurse",
    "teacher",
    "welder",
    "baker",
    "pilot",
    "senior",
    "junior",
    "data",
    "software",
    "machine",
    "operator",
    "clerk",
    "driver",
    "manager",
    "sales",
    "chief",
    "cook",
    "tailor",
    "judge",
    "medical",
    "dental",
    "technical",
    "of",
    "the",
    "and",
    "for",
    "in",
]

_BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # Large enough that logits of a random model differ, small enough that fp32 stays fp32.
    "initializer_range": 0.2,
}


def causal_lm(folder: Path, model_type: str, *, tokenizer: bool = False, **overrides: Any) -> Path:
    """A decoder with an LM head."""
    return save(folder, AutoModelForCausalLM, model_type, tokenizer, overrides)


def classifier(folder: Path, model_type: str, *, tokenizer: bool = False, **overrides: Any) -> Path:
    """A decoder with a classification head."""
    return save(folder, AutoModelForSequenceClassification, model_type, tokenizer, overrides)


def body(folder: Path, model_type: str, *, tokenizer: bool = False, **overrides: Any) -> Path:
    """An encoder or decoder without a head."""
    return save(folder, AutoModel, model_type, tokenizer, overrides)


def bidirectional_llama(
    folder: Path, architecture: str, *, tokenizer: bool = False, **overrides: Any
) -> Path:
    """NVIDIA's Llama that reads both ways, as it is published: with code of its own, which nothing has to run."""
    from rankport.exporters.checkpoints.bidirectional_llama import model

    save(folder, getattr(model, architecture), "llama_bidirec", tokenizer, overrides)
    config = folder / "config.json"
    code = {"AutoModel": f"llama_bidirectional_model.{architecture}"}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": code}))
    return folder


def save(folder: Path, auto: Any, model_type: str, tokenizer: bool, overrides: dict[str, Any]) -> Path:
    torch.manual_seed(sum(map(ord, model_type)))
    config = AutoConfig.for_model(model_type, **{**read_by(model_type), **overrides})
    model = getattr(auto, "from_config", auto)(config).eval()
    with torch.no_grad():
        # Norm weights and biases at their initial 1 and 0 would hide a swapped or dropped one.
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    if tokenizer:
        tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def read_by(model_type: str) -> dict[str, Any]:
    """Gives the fields of `_BASE` that the family has: a checkpoint with others is refused."""
    kind = CONFIG_MAPPING[model_type]
    known = {field.name for field in dataclasses.fields(kind)} | set(kind.attribute_map)
    return {name: value for name, value in _BASE.items() if name in known}


def tiny_tokenizer() -> Tokenizer:
    """Words of `WORDS`, letters for the rest, framed by [BOS] and [EOS]."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.add_special_tokens(["[PAD]", "[BOS]", "[EOS]", "[UNK]"])
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)]
    )
    return tokenizer
