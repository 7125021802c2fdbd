"""Training of two towers on MiniLM's body: representations are its mean states, a small MLP weighs what they make."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel

from examples.esco.minilm import minilm_path
from examples.towers.body_training import Runs, drawn_steps, padded, train_body
from examples.towers.cranfield import Collection
from examples.towers.wide_features import WideIndex, scaled
from rankport.exporters.checkpoints.two_tower.config import Head, Interaction, TwoTowerConfig
from rankport.exporters.checkpoints.two_tower.losses import ranking_loss
from rankport.exporters.checkpoints.two_tower.module import TwoTower, bert_tower
from rankport.exporters.checkpoints.two_tower.scoring import interact

MAX_QUERY_TOKENS, MAX_ITEM_TOKENS = 64, 80  # more tokens of an abstract cost time and gain nothing here
INTERACTIONS: list[Interaction] = ["cosine", "dot"]
HIDDEN, STEPS, LEARNING_RATE, WEIGHT_DECAY = 16, 250, 0.02, 1e-2
BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Trained:
    """The trained module in torch, and its representations of the collection."""

    module: TwoTower
    queries: NDArray[np.float32]  # [queries, width]
    docs: NDArray[np.float32]  # [docs, width]

    def logits(self, query: int, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores every document for a query, with features [docs, features]. [docs]"""
        with torch.no_grad():
            logits = self.module.score(
                torch.from_numpy(self.queries[query]), torch.from_numpy(self.docs), torch.from_numpy(features)
            )
        scores: NDArray[np.float32] = logits[:, 0].numpy()
        return scores


def train(collection: Collection, index: WideIndex, seed: int = 0, body_steps: int = 0) -> Trained:
    """Represents the collection by MiniLM, then trains the head on the training queries, list by list.

    MiniLM stays as it is unless `body_steps` train it first.
    """
    torch.manual_seed(seed)
    columns = index.columns([collection.queries[place] for place in collection.train])
    module = _towers(scaled(columns))
    query_runs, doc_runs = _tokenized(collection)
    train_body(module, query_runs, doc_runs, [*drawn_steps(collection, body_steps, seed)])
    queries, docs = _rows(module, query_runs), _rows(module, doc_runs)
    values = _values(module, queries[collection.train], docs, columns)
    gains = torch.from_numpy(2 ** collection.gains[collection.train] - 1)
    losses = torch.vmap(partial(ranking_loss, "listwise"))  # of all lists at once
    optimizer = torch.optim.AdamW(module.head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(STEPS):
        logits = module.head(values)[:, :, 0]
        optimizer.zero_grad()
        losses(logits, gains).mean().backward()
        optimizer.step()
    return Trained(module.eval().requires_grad_(False), queries, docs)


def save(trained: Trained, folder: Path) -> Path:
    """Writes the checkpoint, with MiniLM's tokenizer."""
    shutil.rmtree(folder, ignore_errors=True)
    trained.module.save(folder, minilm_path() / "tokenizer.json")
    return folder


def _towers(wide: Sequence[Any]) -> TwoTower:
    body: Any = AutoModel.from_pretrained(minilm_path(), local_files_only=True, dtype=torch.float32)
    tower = bert_tower(body, pooling="mean")
    config = TwoTowerConfig(
        vocab_size=body.config.vocab_size,
        max_query_tokens=MAX_QUERY_TOKENS,
        max_item_tokens=MAX_ITEM_TOKENS,
        towers={"shared": tower},
        interactions=INTERACTIONS,
        wide=list(wide),
        head=Head(hidden=[HIDDEN], activation="relu", outputs=["relevant"]),
        objective="listwise",
    )
    return TwoTower(config, {"shared": body})


def _tokenized(collection: Collection) -> tuple[Runs, Runs]:
    """Tokenizes queries and documents, each cut to its limit."""
    tokenizer: Any = tokenizers.Tokenizer.from_file(str(minilm_path() / "tokenizer.json"))
    tokenizer.no_padding()
    runs: list[Runs] = []
    for texts, limit in ((collection.queries, MAX_QUERY_TOKENS), (collection.docs, MAX_ITEM_TOKENS)):
        tokenizer.enable_truncation(limit)
        runs.append([encoding.ids for encoding in tokenizer.encode_batch(list(texts))])
    return runs[0], runs[1]


def _rows(module: TwoTower, runs: Runs) -> NDArray[np.float32]:
    """Represents runs in batches of similar length. [runs, width]"""
    rows = np.empty((len(runs), module.config.width), np.float32)
    waiting: list[int] = []
    order = sorted(range(len(runs)), key=lambda place: len(runs[place]))
    for place in order:
        if waiting and (len(waiting) + 1) * len(runs[place]) > BATCH_TOKENS:
            rows[waiting] = _batch(module, [runs[each] for each in waiting])
            waiting = []
        waiting.append(place)
    rows[waiting] = _batch(module, [runs[each] for each in waiting])
    return rows


@torch.no_grad()
def _batch(module: TwoTower, runs: Runs) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = module.eval().represent(*padded(runs), "item").numpy()
    return rows


def _values(
    module: TwoTower, queries: NDArray[np.float32], docs: NDArray[np.float32], columns: NDArray[np.float32]
) -> Tensor:
    """Computes what the head sees, once: the towers are trained before it. [queries, docs, values]"""
    items, wide = torch.from_numpy(docs), torch.from_numpy(columns)
    with torch.no_grad():
        return torch.stack(
            [
                torch.cat([interact(INTERACTIONS, torch.from_numpy(query), items), module.wide(own)], dim=1)
                for query, own in zip(queries, wide, strict=True)
            ]
        )
