"""Training of the towers' own body, before the head: passages of a training query against others, by their cosines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from examples.towers.cranfield import Collection
from rankport.exporters.checkpoints.two_tower.losses import ranking_loss
from rankport.exporters.checkpoints.two_tower.module import TwoTower

RELEVANT, OTHERS = 6, 10  # documents of a step: judged ones, and those that are not
SCALE = 20.0  # of cosines, as sentence-transformers trains MiniLM
LEARNING_RATE = 2e-5

Runs = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Step:
    """A query and some documents, as places in the collection."""

    query: int
    docs: NDArray[np.int64]
    gains: NDArray[np.float32]  # [docs]


def train_body(
    module: TwoTower,
    queries: Runs,
    docs: Runs,
    steps: Sequence[Step],
    learning_rate: float = LEARNING_RATE,
) -> list[float]:
    """Trains all of the module's towers, a step at a time, and gives the loss of each."""
    module.towers.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(module.towers.parameters(), lr=learning_rate)
    losses = []
    for step in steps:
        query = module.represent(*padded([queries[step.query]]), "query")
        items = module.represent(*padded([docs[place] for place in step.docs]), "item")
        cosines = nn.functional.cosine_similarity(query, items)
        loss = ranking_loss("listwise", SCALE * cosines, torch.from_numpy(step.gains))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    module.towers.eval()
    return losses


def drawn_steps(collection: Collection, count: int, seed: int = 0) -> Iterator[Step]:
    """Draws training queries in turn, each with judged documents and random others."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        query = int(collection.train[number % len(collection.train)])
        gains = collection.gains[query]
        judged = rng.permutation(np.flatnonzero(gains))[:RELEVANT]
        others = rng.choice(np.flatnonzero(gains == 0), OTHERS, replace=False)
        places = np.concatenate([judged, others])
        yield Step(query, places, (2.0 ** gains[places] - 1).astype(np.float32))


def padded(runs: Runs) -> tuple[Tensor, Tensor]:
    """Pads runs at their ends. Ids and mask, [runs, tokens] int64 each"""
    longest = max(map(len, runs))
    ids = torch.tensor([[*run, *[0] * (longest - len(run))] for run in runs])
    return ids, torch.tensor([[1] * len(run) + [0] * (longest - len(run)) for run in runs])
