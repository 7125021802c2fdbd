"""Judging a ranker's checkpoint with torch, and writing the files that rankport's commands judge with."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.esco.dataset import Dataset, Item, JudgedQuery
from examples.esco.vocabulary import PromptIds


@dataclass(frozen=True, slots=True)
class CheckpointRanker:
    """A ranker's checkpoint run by transformers in fp32: every item as one full sequence."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, path: Path) -> "CheckpointRanker":
        """Reads a checkpoint folder."""
        model: Any = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, dtype=torch.float32)
        model.eval()
        return cls(model, AutoTokenizer.from_pretrained(path, local_files_only=True))

    def logits(self, query: str, item_tokens: NDArray[np.floating]) -> NDArray[np.float32]:
        """Logits of (yes, no) for the items' embedding tokens [items, hidden]. [items, 2]"""
        ids = PromptIds.of(self.tokenizer)
        with torch.inference_mode():
            embed = self.model.get_input_embeddings()
            prefix = embed(torch.tensor([ids.prefix(self.tokenizer, query)])).expand(len(item_tokens), -1, -1)
            items = torch.from_numpy(item_tokens.astype(np.float32))[:, None]
            sequence = torch.cat([prefix, items], 1)
            logits = self.model(inputs_embeds=sequence, use_cache=False, logits_to_keep=1).logits
        rows: NDArray[np.float32] = logits[:, 0, list(ids.labels)].numpy()
        return rows


def score_checkpoint(
    path: Path, dataset: Dataset, queries: Sequence[JudgedQuery], item_tokens: NDArray[np.floating]
) -> list[NDArray[np.float32]]:
    """Probability of "yes" for every item of every query; `item_tokens` [items, hidden] in dataset order."""
    ranker, rows = CheckpointRanker.load(path), dataset.rows()
    scores = []
    for query in queries:
        logits = ranker.logits(query.text, item_tokens[[rows[id] for id in query.item_ids]])
        scores.append(np.reciprocal(1 + np.exp(logits[:, 1] - logits[:, 0])))
    return scores


def write_judged_requests(queries: Sequence[JudgedQuery], path: Path) -> None:
    """One JSON line a query: its prefix fields, its items by store key, their gains."""
    with path.open("w", encoding="utf-8") as file:
        for query in queries:
            request = {
                "prefix": {"query": query.text},
                "items": [{"key": id} for id in query.item_ids],
                "gains": list(query.gains),
            }
            file.write(json.dumps(request) + "\n")


def write_items(items: Sequence[Item], path: Path) -> None:
    """CSV with the columns item_id and text, the text being what the item encoder reads."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "text"])
        writer.writerows((item.id, item.text) for item in items)
