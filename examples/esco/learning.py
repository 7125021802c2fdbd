"""Parts of the training: targets, augmentation, order, optimizer and schedule."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from examples.esco.dataset import Dataset


class ItemTargets:
    """Which of the training items a phrase means: its own fully, those of the same unit group in part."""

    def __init__(self, dataset: Dataset, group_share: float) -> None:
        """`group_share` of the target goes to the rest of the unit group, evenly."""
        items = [dataset.items[row] for row in dataset.training_rows()]
        places = {item.id: place for place, item in enumerate(items)}
        self._owners = [[places[id] for id in sorted(phrase.item_ids)] for phrase in dataset.phrases]
        isco = np.array([item.isco for item in items])
        group = torch.from_numpy(isco[:, None] == isco[None, :]).float().fill_diagonal_(0)
        others = group.sum(1, keepdim=True)
        share = torch.where(others > 0, group_share, 0.0)
        self._targets = share * group / others.clamp(min=1) + torch.diag((1 - share)[:, 0])

    def draw(self, phrases: NDArray[np.int64], rng: np.random.Generator) -> torch.Tensor:
        """Distributions over the training items; one item of each phrase is its own. [phrases, training items]"""
        items = [int(rng.choice(self._owners[phrase])) for phrase in phrases]
        return self._targets[torch.tensor(items)]


def drop_pieces(ids: list[int], share: float, rng: np.random.Generator) -> list[int]:
    """Leaves out each id after the first with probability `share`, never all of them."""
    kept = [id for id in ids[1:] if rng.random() >= share]
    return [ids[0], *(kept or ids[1:])]


def respell(
    ids: list[int], spellings: Mapping[int, Sequence[int]], share: float, rng: np.random.Generator
) -> list[int]:
    """Puts the spelling of a word in its place with probability `share`, where it has one."""
    return [piece for id in ids for piece in (spellings.get(id, (id,)) if rng.random() < share else (id,))]


def random_batches(count: int, batch: int, steps: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """`steps` batches of row numbers below `count`, in passes of random order."""
    passes = math.ceil(steps * batch / count)
    order = np.concatenate([rng.permutation(count) for _ in range(passes)])
    return [order[step * batch : (step + 1) * batch] for step in range(steps)]


class Optimizer:
    """AdamW with a linear warm-up and a cosine to zero; rows of the embedding learn at a rate of their own."""

    def __init__(self, model: Any, rate: float, row_rate: float, weight_decay: float, steps: int) -> None:
        """Decays matrices of the layers only."""
        rows = model.get_input_embeddings().weight
        layers = [parameter for parameter in model.parameters() if parameter is not rows]
        groups = [
            {"params": [rows], "lr": row_rate, "weight_decay": 0.0},
            {"params": [p for p in layers if p.ndim > 1], "lr": rate, "weight_decay": weight_decay},
            {"params": [p for p in layers if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
        ]
        self._parameters: Sequence[torch.nn.Parameter] = [rows, *layers]
        self._adam = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        warmup = 20

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._adam, factor)

    def step(self, loss: torch.Tensor) -> None:
        """Goes down the gradient of `loss`, clipped to length 1."""
        self._adam.zero_grad(set_to_none=True)
        backward: Any = loss.backward
        backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._adam.step()
        self._schedule.step()
