"""Tags of a checkpoint as its owner has them: transformers' class, one text at a time, the first token of each word."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForTokenClassification

from examples.tagging.train import plain_tokenizer


@torch.inference_mode()
def checkpoint_tags(folder: Path, texts: Sequence[Sequence[str]]) -> list[list[str]]:
    """Tags the words of each text; a word without tokens is `O`. [texts] of [words]"""
    tokenizer = plain_tokenizer(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder, local_files_only=True).eval()
    names = model.config.id2label
    tagged = []
    for words in texts:
        encoded = tokenizer(list(words), is_split_into_words=True, return_tensors="pt")
        labels = model(**encoded).logits[0].argmax(-1).tolist()
        tags = ["O"] * len(words)
        for token, word in reversed(list(enumerate(encoded.word_ids()))):
            if word is not None:
                tags[word] = names[labels[token]]
        tagged.append(tags)
    return tagged
