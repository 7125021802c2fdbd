"""Checkpoints of encoders that read two texts, with tokenizers that frame pairs as their families do."""

from pathlib import Path
from typing import Any

from tokenizers import processors
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from support import checkpoints

LIMIT = 32
_TEMPLATES = {
    "bert": "[BOS] $A [EOS] $B:1 [EOS]:1",
    "roberta": "[BOS] $A [EOS] [EOS] $B [EOS]",
}


def pair_tokenizer(frame: str = "bert", **settings: Any) -> PreTrainedTokenizerFast:
    """Words of the tiny tokenizer; with token types where a frame has some."""
    inner = checkpoints.tiny_tokenizer()
    inner.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[BOS] $A [EOS]", pair=_TEMPLATES[frame], special_tokens=[("[BOS]", 1), ("[EOS]", 2)]
    )
    names = (
        ["input_ids", "token_type_ids", "attention_mask"]
        if frame == "bert"
        else ["input_ids", "attention_mask"]
    )
    given: dict[str, Any] = {"model_max_length": LIMIT, "model_input_names": names, **settings}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[BOS]",
        sep_token="[EOS]",
        **given,
    )


def pair_classifier(folder: Path, model_type: str = "bert", frame: str = "bert", **overrides: Any) -> Path:
    """A one-layer encoder with a classification head, and its tokenizer's files."""
    checkpoints.classifier(folder, model_type, **{"num_hidden_layers": 1, **overrides})
    pair_tokenizer(frame).save_pretrained(folder)
    return folder


def cross_encoder_folder(folder: Path, **overrides: Any) -> Path:
    """A folder that sentence-transformers' CrossEncoder wrote: one label, a sigmoid."""
    from sentence_transformers import CrossEncoder

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    plain = pair_classifier(folder.parent / f"{folder.name}-plain", **{"num_labels": 1, **overrides})
    CrossEncoder(str(plain), device="cpu", local_files_only=True).save_pretrained(str(folder))
    return folder
