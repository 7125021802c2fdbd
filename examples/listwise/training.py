"""Training of the list ranker's last layer: what of the items that are nearest to a query is fed back to it.

Reads the training split and phrases alone: no query or held-out item of an evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from examples.esco.dataset import Dataset
from examples.listwise.feedback import FeedbackLayer
from examples.listwise.lists import TrainingList, judged_lists, phrase_lists
from examples.progress import counted

_LEAST_ITEMS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Choices of a run, made on the valid splits."""

    seed: int = 7
    steps: int = 240
    lists: int = 48  # a step
    judged: float = 0.5  # share of lists that are judged queries' own, the others drawn around phrases
    phrases: int = 2000
    whole: float = 0.7  # share of lists that are not cut
    rate: float = 3e-4
    hold: float = 1e-3  # pull of each weight to where it began
    temperature: float = 0.5  # of the gains in the targets
    sharpness: float = 20.0  # of the cosines


def train(
    layer: FeedbackLayer,
    dataset: Dataset,
    item_tokens: NDArray[np.floating],
    query_vectors: Callable[[Sequence[str]], Tensor],
    config: TrainingConfig,
    on_step: Callable[[int, int, float], None] = lambda *_: None,
) -> None:
    """Trains on lists of random order, the loss of a list the cross entropy with its gains (ListNet, Cao 2007).

    `item_tokens` [items, hidden] are in dataset order; `query_vectors` gives those of texts. [texts, hidden]
    """
    rng = np.random.default_rng(config.seed)
    kinds = (judged_lists(dataset), phrase_lists(dataset, item_tokens, config.phrases, rng))
    vectors = [query_vectors([own.query for own in kind]) for kind in kinds]
    tokens = torch.from_numpy(item_tokens.astype(np.float32))
    start = [weight.detach().clone() for weight in layer.parameters()]
    optimizer = torch.optim.Adam(layer.parameters(), lr=config.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.rate, total_steps=config.steps + 1, pct_start=0.1
    )
    for step in counted(config.steps, "training the layer"):
        kind = (rng.random(config.lists) >= config.judged).astype(int)
        places = [int(rng.integers(len(kinds[of]))) for of in kind]
        asked = torch.stack([vectors[of][place] for of, place in zip(kind, places, strict=True)])
        chosen = [
            _shuffled(kinds[of][place], config.whole, rng) for of, place in zip(kind, places, strict=True)
        ]
        loss = _loss(layer, asked, chosen, tokens, config)
        moved = sum(((now - then) ** 2).sum() for now, then in zip(layer.parameters(), start, strict=True))
        optimizer.zero_grad()
        (loss + config.hold * moved).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        on_step(step + 1, config.steps, loss.item())


def _shuffled(own: TrainingList, whole: float, rng: np.random.Generator) -> TrainingList:
    """Draws an order, of some lists of a part of the items."""
    count = len(own.rows)
    kept = count if rng.random() < whole else int(rng.integers(min(_LEAST_ITEMS, count), count + 1))
    order = rng.permutation(count)[:kept]
    return TrainingList(own.query, own.rows[order], own.gains[order])


def _loss(
    layer: FeedbackLayer,
    asked: Tensor,
    chosen: Sequence[TrainingList],
    tokens: Tensor,
    config: TrainingConfig,
) -> Tensor:
    rows = _padded([torch.from_numpy(own.rows) for own in chosen])
    gains = _padded([torch.from_numpy(own.gains) for own in chosen])
    lengths = torch.tensor([len(own.rows) for own in chosen])
    there = torch.arange(rows.shape[1]) < lengths[:, None]
    least = torch.finfo(torch.float32).min
    scores = (config.sharpness * layer(asked, tokens[rows], there)).masked_fill(~there, least)
    target = (gains / config.temperature).masked_fill(~there, least).softmax(1)
    return -(target * scores.log_softmax(1)).sum(1).mean()


def _padded(runs: Sequence[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(runs), batch_first=True)
