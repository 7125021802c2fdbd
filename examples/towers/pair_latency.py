"""The time of a cross-encoder of the same body: what representations that are stored save. Its head is not trained."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification

from examples.esco.minilm import minilm_path
from rankport.runtime.bundle.bundle import Bundle
from rankport.sdk import export

MAX_PAIR_TOKENS = 192


def pair_bundle(out: Path) -> Bundle:
    """Exports MiniLM with a head of one label over a pair of texts."""
    torch.manual_seed(0)
    checkpoint = out / "pairs"
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        minilm_path(), local_files_only=True, num_labels=1, dtype=torch.float32
    )
    model.config.id2label = {0: "relevant"}
    model.config.label2id = {"relevant": 0}
    model.save_pretrained(checkpoint)
    tokenizer = Tokenizer.from_file(str(minilm_path() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    return export(
        checkpoint,
        out / "pairs.bundle",
        kind="cross-encoder",
        max_pair_tokens=MAX_PAIR_TOKENS,
        overwrite=True,
    )
