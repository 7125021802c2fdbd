"""Parts that both stages of the training share: targets, losses, augmentation, optimizer and schedule."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from examples.esco.dataset import Dataset


class ItemTargets:
    """Which of the training items a phrase means: its own fully, those of the same unit group in part."""

    def __init__(self, dataset: Dataset, group_share: float) -> None:
        """`group_share` of the target goes to the rest of the unit group, evenly."""
        isco = np.array([dataset.items[row].isco for row in dataset.training_rows()])
        group = torch.from_numpy(isco[:, None] == isco[None, :]).float().fill_diagonal_(0)
        others = group.sum(1, keepdim=True)
        share = torch.where(others > 0, group_share, 0.0)
        self._targets = share * group / others.clamp(min=1) + torch.diag((1 - share)[:, 0])

    def of(self, items: NDArray[np.int64]) -> torch.Tensor:
        """Distributions over the training items, for phrases that mean `items`. [phrases, training items]"""
        return self._targets[torch.from_numpy(items)]


def listwise_loss(gaps: torch.Tensor, gains: torch.Tensor, partial_weight: float) -> torch.Tensor:
    """Cross-entropy of a softmax over each list [batch, items] with its weighted gains (Cao et al., 2007)."""
    target = (gains == 2) + partial_weight * (gains == 1)
    return functional.cross_entropy(gaps, target / target.sum(1, keepdim=True))


def distillation_loss(scores: torch.Tensor, cosines: torch.Tensor, sharpness: float) -> torch.Tensor:
    """Cross-entropy of softmax(scores) with the teacher's softmax(sharpness x cosines). [batch, items] each"""
    return functional.cross_entropy(scores, torch.softmax(sharpness * cosines, 1))


def drop_words(ids: list[int], share: float, rng: np.random.Generator) -> list[int]:
    """Leaves out each token after the first with probability `share`, never all of them."""
    kept = [id for id in ids[1:] if rng.random() >= share]
    return [ids[0], *(kept or ids[1:])]


def add_noise(tokens: torch.Tensor, length: float, constant: torch.Tensor) -> torch.Tensor:
    """Item tokens turned a little: noise of about `length`, none along the constant, unit length again."""
    noise = torch.randn(tokens.shape) * (length / tokens.shape[-1] ** 0.5)
    noise = noise - (noise @ constant)[..., None] * constant
    return functional.normalize(tokens + noise, dim=-1)


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
        warmup = 10

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
