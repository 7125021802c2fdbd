"""Training of the rankers: cross entropy over a part of a slate, of what was watched and of what was liked.

Slates of about the same length of history are computed together, by `vmap` over the reference module.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, vmap

from examples.ligr.slates import MOST_EVENTS, NEAR, POPULAR, Slate
from rankport.exporters.checkpoints.set_ranker.config import SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel

_NO_SCALARS = ("movie", "genres")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Choices of a run, made on slates between training and test."""

    hidden: int = 32
    epochs: int = 1
    batch: int = 32
    candidates: int = 64  # of a slate that a step sees
    popular: float = 0.0  # extra weight of the popular in the draw of these, corrected in the loss (logQ)
    rate: float = 4e-3
    weight_decay: float = 0.05
    liked: float = 0.3  # weight of the second head's loss
    averaged: float = 0.99  # of the weights that the mean of the last ones keeps each step
    seed: int = 0


def config_of(slates: Sequence[Slate], movies: int, policy: str, hidden: int = 32) -> SetRankerConfig:
    """Makes the config: two blocks of LiGR, scalars scaled by what the slates of the training have."""
    genres = slates[0].candidates["genres"].shape[1]
    movie: dict[str, Any] = {"source": "id", "name": "movie", "table": "movie"}
    kinds: dict[str, Any] = {"source": "dense", "name": "genres", "width": genres}
    return SetRankerConfig.model_validate(
        {
            "hidden_size": hidden,
            "attention_heads": 4,
            "blocks": ["ligr", "ligr"],
            "ffn_multiple": 2,
            "positions": 32,
            "time_buckets": 26,
            "towers": [{"name": "next", "hidden": [32], "outputs": ["watch", "like"]}],
            "score": "logit",
            "head_weights": {"watch": 1.0},
            "sets": {
                "tables": {"movie": {"rows": movies, "width": 16, "unknown": "zero"}},
                "event": [movie, kinds, *_scalars([slate.history for slate in slates])],
                "candidate": [movie, kinds, *_scalars([slate.candidates for slate in slates])],
                "mask": {"policy": policy},
                "times": True,
                "max_events": MOST_EVENTS,
                "max_candidates": POPULAR + NEAR,
            },
        }
    )


def train(policy: SetRankerConfig, slates: Sequence[Slate], config: TrainingConfig) -> SetRankerModel:
    """Trains a model; deterministic on one machine. Returns the mean of the last weights."""
    torch.manual_seed(config.seed)
    model = SetRankerModel(policy)
    torch.nn.init.normal_(model.tables["movie"].weight, std=0.02)  # type: ignore[arg-type]
    weights = dict(model.named_parameters())
    means = {name: weight.detach().clone() for name, weight in weights.items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=config.rate, weight_decay=config.weight_decay)
    steps = config.epochs * (len(slates) // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.rate, total_steps=steps + 1, pct_start=0.15
    )
    rng, begun_s = np.random.default_rng(config.seed), time.process_time()
    for _ in range(config.epochs):
        total, count = 0.0, 0
        for batch in batches(slates, config.batch, rng):
            loss = _loss(model, weights, batch, config, rng)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimizer.step()
            schedule.step()
            for name, weight in weights.items():
                means[name].lerp_(weight.detach(), 1 - config.averaged)
            total, count = total + float(loss.detach()), count + 1
        print(f"loss {total / count:.3f}, {time.process_time() - begun_s:.0f} s")
    model.load_state_dict(means, strict=False)
    return model.eval()


def batches(slates: Sequence[Slate], size: int, rng: np.random.Generator) -> list[list[Slate]]:
    """Puts slates of about the same length of history together, in random order."""
    lengths = np.array([len(slate.times) for slate in slates])
    order = np.lexsort((rng.random(len(slates)), lengths))
    starts = rng.permutation(np.arange(int(rng.integers(size)), len(order) - size + 1, size))
    return [[slates[place] for place in order[start : start + size]] for start in starts]


def _loss(
    model: SetRankerModel,
    weights: dict[str, Tensor],
    batch: Sequence[Slate],
    config: TrainingConfig,
    rng: np.random.Generator,
) -> Tensor:
    events = min(len(slate.times) for slate in batch)
    chosen = [drawn(slate, config, rng) for slate in batch]
    sessions = (
        torch.zeros(config.candidates, dtype=torch.int64)
        if model.config.sets.mask.policy == "set-wise"
        else None
    )

    def logits_of(
        history: dict[str, Tensor], candidates: dict[str, Tensor], times: Tensor, now: Tensor
    ) -> Tensor:
        logits: Tensor = functional_call(model, weights, (history, candidates, times, now, sessions))
        return logits

    logits = vmap(logits_of)(
        _stacked([slate.history for slate in batch], [slice(-events, None)] * len(batch)),
        _stacked([slate.candidates for slate in batch], [places for places, _ in chosen]),
        torch.from_numpy(np.stack([slate.times[-events:] for slate in batch])),
        torch.tensor([[slate.now] for slate in batch]),
    )  # [slates, candidates, heads]
    logits = logits - torch.from_numpy(np.stack([log_q for _, log_q in chosen]))[:, :, None]
    watched, liked = (
        np.stack([of[places] for of, (places, _) in zip(column, chosen, strict=True)])
        for column in ([slate.watched for slate in batch], [slate.liked for slate in batch])
    )
    return _cross_entropy(logits[..., 0], watched) + config.liked * _cross_entropy(logits[..., 1], liked)


def drawn(
    slate: Slate, config: TrainingConfig, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Draws candidates of a slate: all that were watched, and others; with the logarithm of how likely they were."""
    watched, others = np.flatnonzero(slate.watched), np.flatnonzero(slate.watched == 0)
    room = config.candidates - len(watched)
    likely = np.exp(config.popular * slate.candidates["days_7"][others].astype(np.float64))
    likely /= likely.sum()
    keys = np.log(likely) + rng.gumbel(size=len(others))
    taken = np.argsort(-keys)[:room]
    log_q = np.log(np.minimum(room * likely[taken], 1)).astype(np.float32)
    return np.concatenate([watched, others[taken]]), np.concatenate(
        [np.zeros(len(watched), np.float32), log_q]
    )


def _stacked(
    columns: Sequence[Mapping[str, NDArray[np.generic]]], places: Sequence[Any]
) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(np.stack([of[name][at] for of, at in zip(columns, places, strict=True)]))
        for name in columns[0]
    }


def _cross_entropy(logits: Tensor, wanted: NDArray[np.float32]) -> Tensor:
    """Averages over slates the cross entropy with equal shares of what is wanted; 0 where nothing is."""
    share = torch.from_numpy(wanted / np.maximum(wanted.sum(axis=1, keepdims=True), 1))
    return -(torch.log_softmax(logits, 1) * share).sum(1).mean()


def _scalars(columns: Sequence[Mapping[str, NDArray[np.generic]]]) -> list[dict[str, Any]]:
    scalars = []
    for name in (name for name in columns[0] if name not in _NO_SCALARS):
        values = np.concatenate([of[name] for of in columns]).astype(np.float64)
        scaling = {
            "scaling": "mean-std",
            "mean": round(float(values.mean()), 4),
            "std": round(float(values.std()), 4),
        }
        scalars.append({"source": "scalar", "name": name, **scaling})
    return scalars
