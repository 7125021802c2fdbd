"""Small encoder-decoders: that answer by their first token, as monoT5, and by a head behind their decoder."""

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import processors

from support.text_tokenizers import LINES, saved

PAD, END = "<pad>", "</s>"
SIZES = {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 1, "num_heads": 4}


def t5_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Pieces with a space before words, and the end token behind each text, as T5's."""
    special = (PAD, END)
    lines = (*LINES, "Query: Document: Relevant: true false", "true false")
    inner = tokenizers.Tokenizer.from_str(saved("metaspace", lines, special))
    end = (END, inner.token_to_id(END))
    inner.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[end]
    )
    return transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=END,
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )


def t5(folder: Path, kind: str = "T5ForConditionalGeneration", **overrides: Any) -> Path:
    """A random T5, or one of its kin, of a layer each side."""
    tokenizer = t5_tokenizer()
    family = getattr(transformers, kind).config_class
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    start = {"decoder_start_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    model = getattr(transformers, kind)(family(**{**SIZES, **ends, **start, **overrides})).eval()
    apart = overrides.get("tie_word_embeddings") is False
    if apart:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    if apart:
        _state_as_published(folder / "config.json")
    tokenizer.save_pretrained(folder)
    return folder


def bart(folder: Path, **overrides: Any) -> Path:
    """A random BART of a layer each side."""
    tokenizer = t5_tokenizer()
    sizes = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 40}
    sides = ("encoder", "decoder")
    parts = {f"{side}_layers": 1 for side in sides} | {f"{side}_attention_heads": 4 for side in sides}
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    start = {"decoder_start_token_id": tokenizer.eos_token_id, "forced_eos_token_id": None}
    torch.manual_seed(0)
    config = transformers.BartConfig(
        **{
            "vocab_size": len(tokenizer),
            "scale_embedding": True,
            **sizes,
            **parts,
            **ends,
            **start,
            **overrides,
        }
    )
    model = transformers.BartForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in (*model.parameters(), model.final_logits_bias):
            parameter.add_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _state_as_published(config: Path) -> None:
    """Says of a head of its own what releases before transformers 5 said: the embeddings are not tied."""
    fields = json.loads(config.read_text())
    fields.pop("scale_decoder_outputs", None)
    config.write_text(json.dumps(fields | {"tie_word_embeddings": False, "n_positions": 512}))
