"""Tags of a checkpoint as its owner has them: transformers' class, without padding, the first token of each word."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForTokenClassification

from examples.tagging.train import plain_tokenizer

_TOGETHER = 32


@torch.inference_mode()
def checkpoint_tags(folder: Path, texts: Sequence[Sequence[str]]) -> list[list[str]]:
    """Tags the words of each text, texts of equal length together; a word without tokens is `O`. [texts] of [words]"""
    tokenizer = plain_tokenizer(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder, local_files_only=True).eval()
    names = model.config.id2label
    encoded = tokenizer([list(words) for words in texts], is_split_into_words=True)
    by_length = defaultdict[int, list[int]](list)
    for text, run in enumerate(encoded.input_ids):
        by_length[len(run)].append(text)
    tagged = [["O"] * len(words) for words in texts]
    for same in by_length.values():
        for start in range(0, len(same), _TOGETHER):
            rows = same[start : start + _TOGETHER]
            labels = (
                model(torch.tensor([encoded.input_ids[text] for text in rows])).logits.argmax(-1).tolist()
            )
            for text, own in zip(rows, labels, strict=True):
                for token, word in reversed(list(enumerate(encoded.word_ids(text)))):
                    if word is not None:
                        tagged[text][word] = names[own[token]]
    return tagged
