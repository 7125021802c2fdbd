"""Training of the rankers: cross entropy over a slate, of what was watched and of what was liked."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from examples.ligr.slates import MOST_EVENTS, NEAR, POPULAR, Slate
from rankport.exporters.checkpoints.set_ranker.config import SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel

_BATCH = 8
_LIKED_WEIGHT = 0.3


def config_of(slates: Sequence[Slate], movies: int, policy: str) -> SetRankerConfig:
    """Makes the config: two blocks of LiGR, scalars scaled by what the slates of the training have."""
    genres = slates[0].candidates["genres"].shape[1]
    movie: dict[str, Any] = {"source": "id", "name": "movie", "table": "movie"}
    kinds: dict[str, Any] = {"source": "dense", "name": "genres", "width": genres}
    scalars = [name for name in slates[0].candidates if name not in ("movie", "genres")]
    return SetRankerConfig.model_validate(
        {
            "hidden_size": 48,
            "attention_heads": 4,
            "blocks": ["ligr", "ligr"],
            "ffn_multiple": 2,
            "positions": 32,
            "time_buckets": 26,
            "towers": [{"name": "next", "hidden": [32], "outputs": ["watch", "like"]}],
            "score": "logit",
            "head_weights": {"watch": 1.0},
            "sets": {
                "tables": {"movie": {"rows": movies, "width": 24, "unknown": "zero"}},
                "event": [movie, kinds, _scalar("rating", [slate.history["rating"] for slate in slates])],
                "candidate": [
                    movie,
                    kinds,
                    *(_scalar(name, [slate.candidates[name] for slate in slates]) for name in scalars),
                ],
                "mask": {"policy": policy},
                "times": True,
                "max_events": MOST_EVENTS,
                "max_candidates": POPULAR + NEAR,
            },
        }
    )


def train(config: SetRankerConfig, slates: Sequence[Slate], epochs: int, seed: int = 0) -> SetRankerModel:
    """Trains a model; deterministic on one machine."""
    torch.manual_seed(seed)
    model = SetRankerModel(config)
    torch.nn.init.normal_(model.tables["movie"].weight, std=0.02)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.02)
    steps = epochs * len(slates) // _BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps + 1)
    rng, begun_s = np.random.default_rng(seed), time.process_time()
    for _ in range(epochs):
        order, total = rng.permutation(len(slates)), 0.0
        for start in range(0, len(order) - _BATCH + 1, _BATCH):
            optimizer.zero_grad()
            batch = [slates[place] for place in order[start : start + _BATCH]]
            loss = torch.stack([_loss(model, slate) for slate in batch]).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        print(f"loss {total * _BATCH / len(order):.3f}, {time.process_time() - begun_s:.0f} s")
    return model.eval()


def _loss(model: SetRankerModel, slate: Slate) -> Tensor:
    together = model.config.sets.mask.policy == "set-wise"
    sessions = torch.zeros(len(slate.watched), dtype=torch.int64) if together else None
    logits = model(
        _tensors(slate.history),
        _tensors(slate.candidates),
        torch.from_numpy(slate.times),
        torch.tensor([slate.now]),
        sessions,
    )
    watched = _cross_entropy(logits[:, 0], slate.watched)
    if not slate.liked.any():
        return watched
    return watched + _LIKED_WEIGHT * _cross_entropy(logits[:, 1], slate.liked)


def _cross_entropy(logits: Tensor, wanted: NDArray[np.float32]) -> Tensor:
    share = torch.from_numpy(wanted / wanted.sum())
    return -(torch.log_softmax(logits, 0) * share).sum()


def _tensors(columns: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def _scalar(name: str, columns: Sequence[NDArray[np.generic]]) -> dict[str, Any]:
    values = np.concatenate(columns).astype(np.float64)
    return {
        "source": "scalar",
        "name": name,
        "scaling": "mean-std",
        "mean": round(float(values.mean()), 4),
        "std": round(float(values.std()), 4),
    }
