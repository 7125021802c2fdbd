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
from examples.esco.upper_layers import Runs, freeze, lower_states, run_layers
from examples.intent.checkpoint import train_steps

MAX_TOKENS = 64
"""Tokens of a pair, special ones included: a query and a title have 10 on average."""

_JUDGED_PAIRS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Choices of a run, made on the valid split."""

    seed: int = 7
    epochs: int = 1
    lists: int = 8  # queries a step
    candidates: int = 12  # of each, its relevant ones first
    rate: float = 2e-4
    head_rate: float = 2e-3
    frozen_layers: int = 2  # the lowest, and the embeddings
    temperature: float = 0.5  # of the gains in the targets


@dataclass(frozen=True, slots=True)
class List:
    """A query and some of its candidates."""

    query: str
    items: tuple[str, ...]
    gains: tuple[int, ...]


def train(
    dataset: Dataset, config: TrainingConfig, on_step: Callable[[int, int, float], None] = lambda *_: None
) -> tuple[Any, Any]:
    """Fine-tunes on the training queries' graded candidates. Returns model and tokenizer.

    The loss is the cross entropy of each list's softmax with that of its gains (ListNet, Cao et al. 2007).
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    model, tokenizer = _start()
    body = freeze(model.bert, config.frozen_layers)
    head = [*model.bert.pooler.requires_grad_(True).parameters(), *model.classifier.parameters()]
    queries = dataset.split("train")
    drawn = [queries[place] for _ in range(config.epochs) for place in rng.permutation(len(queries))]
    lists = [_list_of(query, config.candidates, rng) for query in drawn]
    pairs = _lower_states(model, tokenizer, dataset, lists, config.frozen_layers)
    steps = len(lists) // config.lists
    optimizer, schedule = train_steps(
        [{"params": body, "lr": config.rate}, {"params": head, "lr": config.head_rate}], steps
    )
    for step in range(steps):
        chosen = range(step * config.lists, (step + 1) * config.lists)
        loss = _loss(model, pairs, lists, chosen, config)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        on_step(step + 1, steps, loss.item())
    return model, tokenizer


def save(model: Any, tokenizer: Any, path: Path) -> None:
    """Writes a checkpoint as transformers does."""
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def score_checkpoint(path: Path, dataset: Dataset, queries: Sequence[JudgedQuery]) -> list[np.ndarray]:
    """Scores the candidates of each query by the checkpoint in torch. [items] each"""
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(path, local_files_only=True).eval()
    titles = {item.id: item.title for item in dataset.items}
    pairs = [(query.text, titles[item]) for query in queries for item in query.item_ids]
    scores = np.empty(len(pairs), np.float32)
    order = np.argsort([len(first) + len(second) for first, second in pairs], kind="stable")
    for rows in np.array_split(order, len(pairs) // _JUDGED_PAIRS + 1):
        with torch.inference_mode():
            scores[rows] = _logits(model, tokenizer, [pairs[row] for row in rows]).sigmoid().numpy()
    return np.split(scores, np.cumsum([len(query.item_ids) for query in queries])[:-1])


def _start() -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(minilm_path(), local_files_only=True)
    tokenizer.model_max_length = MAX_TOKENS
    model = AutoModelForSequenceClassification.from_pretrained(
        minilm_path(),
        local_files_only=True,
        num_labels=1,
        id2label={0: "relevance"},
        label2id={"relevance": 0},
    )
    return model.eval(), tokenizer


def _lower_states(model: Any, tokenizer: Any, dataset: Dataset, lists: Sequence[List], layers: int) -> Runs:
    """Computes the frozen layers' states of all pairs, list by list."""
    titles = {item.id: item.title for item in dataset.items}
    firsts = [own.query for own in lists for _ in own.items]
    seconds = [titles[item] for own in lists for item in own.items]
    encoded = tokenizer(firsts, seconds, truncation=True, padding=False)
    return lower_states(model.bert, encoded["input_ids"], encoded["token_type_ids"], layers)


def _list_of(query: JudgedQuery, most: int, rng: np.random.Generator) -> List:
    """Draws candidates of a query: its relevant ones, up to half of the list, and others."""
    gains = np.array(query.gains)
    places = rng.permutation(len(gains))
    relevant = [place for place in places if gains[place] > 0][: most // 2]
    others = [place for place in places if gains[place] == 0][: most - len(relevant)]
    kept = [*relevant, *others]
    return List(
        query.text,
        tuple(query.item_ids[place] for place in kept),
        tuple(int(gains[place]) for place in kept),
    )


def _loss(model: Any, pairs: Runs, lists: Sequence[List], chosen: range, config: TrainingConfig) -> Tensor:
    """Computes the mean loss of the chosen lists, whose pairs follow one another."""
    starts = np.cumsum([0, *(len(own.items) for own in lists)])
    texts = range(int(starts[chosen.start]), int(starts[chosen.stop]))
    states = run_layers(model.bert.encoder.layer[config.frozen_layers :], pairs.of(texts), first_alone=True)
    logits = model.classifier(model.bert.pooler(states.states[:, None]))[:, 0]
    losses = []
    for row, own in zip(
        logits.split([len(lists[place].items) for place in chosen]),
        (lists[place] for place in chosen),
        strict=True,
    ):
        target = (torch.tensor(own.gains) / config.temperature).softmax(0)
        losses.append(-(target * row.log_softmax(0)).sum())
    return torch.stack(losses).mean()


def _logits(model: Any, tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> Tensor:
    firsts, seconds = map(list, zip(*pairs, strict=True))
    encoded = tokenizer(firsts, seconds, truncation=True, padding="longest", return_tensors="pt")
    logits: Tensor = model(**encoded).logits[:, 0]
    return logits
