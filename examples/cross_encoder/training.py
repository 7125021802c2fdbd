"""Training of the cross-encoder: MiniLM's body reads query and occupation title together, one logit a pair.

Owns lists, loss and steps. Reads the training split alone: no query, phrase or held-out item of an evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from examples.esco.dataset import Dataset, JudgedQuery
from examples.esco.minilm import minilm_path

MAX_TOKENS = 64
"""Tokens of a pair, special ones included: a query and a title have 12 on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Choices of a run, made on the valid split."""

    seed: int = 7
    epochs: int = 1
    lists: int = 8  # queries a step
    candidates: int = 8  # of each, its relevant ones first
    rate: float = 2e-4
    head_rate: float = 2e-3
    frozen_layers: int = 2  # the lowest, and the embeddings
    temperature: float = 0.5  # of the gains in the targets


def train(
    dataset: Dataset, config: TrainingConfig, on_step: Callable[[int, int, float], None] = lambda *_: None
) -> tuple[Any, Any]:
    """Fine-tunes on the training queries' graded candidates. Returns model and tokenizer.

    The loss is the cross entropy of each list's softmax with that of its gains (ListNet, Cao et al. 2007).
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    tokenizer = AutoTokenizer.from_pretrained(minilm_path(), local_files_only=True)
    tokenizer.model_max_length = MAX_TOKENS
    model = AutoModelForSequenceClassification.from_pretrained(
        minilm_path(),
        local_files_only=True,
        num_labels=1,
        id2label={0: "relevance"},
        label2id={"relevance": 0},
    )
    _freeze(model, config.frozen_layers)
    head = [*model.bert.pooler.parameters(), *model.classifier.parameters()]
    body = [weight for weight in model.bert.encoder.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": body, "lr": config.rate}, {"params": head, "lr": config.head_rate}], weight_decay=0.01
    )
    titles = {item.id: item.title for item in dataset.items}
    queries = list(dataset.split("train"))
    steps = config.epochs * (len(queries) // config.lists)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [config.rate, config.head_rate], total_steps=steps + 1, pct_start=0.2
    )
    model.train()
    for step in range(steps):
        chosen = [queries[place] for place in rng.choice(len(queries), config.lists, replace=False)]
        loss = _loss(
            model, tokenizer, titles, [_list_of(query, config.candidates, rng) for query in chosen], config
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        on_step(step + 1, steps, loss.item())
    return model.eval(), tokenizer


def save(model: Any, tokenizer: Any, path: Path) -> None:
    """Writes a checkpoint as transformers does."""
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def score_checkpoint(path: Path, dataset: Dataset, queries: Sequence[JudgedQuery]) -> list[np.ndarray]:
    """Scores the candidates of each query by the checkpoint in torch. [items] each"""
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(path, local_files_only=True).eval()
    titles = {item.id: item.title for item in dataset.items}
    scores = []
    for query in queries:
        pairs = [(query.text, titles[item]) for item in query.item_ids]
        with torch.inference_mode():
            scores.append(_logits(model, tokenizer, pairs).sigmoid().numpy())
    return scores


def _freeze(model: Any, layers: int) -> None:
    for part in (model.bert.embeddings, *model.bert.encoder.layer[:layers]):
        part.requires_grad_(False)


def _list_of(
    query: JudgedQuery, most: int, rng: np.random.Generator
) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    """Draws candidates of a query: its relevant ones, up to half of the list, and others."""
    gains = np.array(query.gains)
    places = rng.permutation(len(gains))
    relevant = [place for place in places if gains[place] > 0][: most // 2]
    others = [place for place in places if gains[place] == 0][: most - len(relevant)]
    kept = [*relevant, *others]
    return (
        query.text,
        tuple(query.item_ids[place] for place in kept),
        tuple(int(gains[place]) for place in kept),
    )


def _loss(
    model: Any,
    tokenizer: Any,
    titles: dict[str, str],
    lists: Sequence[tuple[str, tuple[str, ...], tuple[int, ...]]],
    config: TrainingConfig,
) -> Tensor:
    pairs = [(query, titles[item]) for query, items, _ in lists for item in items]
    logits = _logits(model, tokenizer, pairs)
    losses = []
    for row, (_, _, gains) in zip(logits.split([len(items) for _, items, _ in lists]), lists, strict=True):
        target = (torch.tensor(gains) / config.temperature).softmax(0)
        losses.append(-(target * row.log_softmax(0)).sum())
    return torch.stack(losses).mean()


def _logits(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> Tensor:
    firsts, seconds = map(list, zip(*pairs, strict=True))
    encoded = tokenizer(firsts, seconds, truncation=True, padding="longest", return_tensors="pt")
    logits: Tensor = model(**encoded).logits[:, 0]
    return logits
