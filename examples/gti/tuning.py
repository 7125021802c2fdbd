"""Supervised fine-tuning on histories: each is the semantic IDs of its movies, and every ID is to be foretold."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.gti.movies import HISTORY


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRecipe:
    """Choices of a run."""

    seed: int = 7
    epochs: int = 6
    saved: tuple[int, ...] = (2, 6)  # epochs behind which the checkpoint is written
    batch: int = 64  # windows
    rate: float = 3e-3
    warmup: int = 20  # steps


def tune(
    checkpoint: Path,
    sequences: list[list[list[int]]],
    weights: list[list[float]],
    out: Path,
    recipe: TuningRecipe = TuningRecipe(),
    on_step: Callable[[int, int, float], None] = lambda *_: None,
) -> dict[Path, float]:
    """Tunes a whole checkpoint on the IDs of histories, movies by their weights.

    Writes it behind some epochs, each to a folder of `out`. Returns these, and the epoch's loss in nats a token.
    """
    torch.manual_seed(recipe.seed)
    build: Any = AutoModelForCausalLM
    model = build.from_pretrained(checkpoint, local_files_only=True, dtype=torch.float32).train()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    windows, worth = _windows(sequences, weights, tokenizer.bos_token_id, tokenizer.pad_token_id)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.05)
    in_epoch = math.ceil(len(windows) / recipe.batch)
    steps, losses, written = recipe.epochs * in_epoch, list[float](), dict[Path, float]()
    for step in range(steps):
        if step % in_epoch == 0:
            order, losses = torch.randperm(len(windows)), []
        rows = order[step % in_epoch * recipe.batch :][: recipe.batch]
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min(1, (step + 1) / recipe.warmup, 1.05 - step / steps)
        loss = _loss(model, windows[rows], worth[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        on_step(step + 1, steps, loss.item())
        epoch, left = divmod(step + 1, in_epoch)
        if not left and epoch in recipe.saved:
            folder = out / f"epoch-{epoch}"
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            written[folder] = float(np.mean(losses))
    return written


def _windows(
    sequences: list[list[list[int]]], weights: list[list[float]], bos: int, pad: int
) -> tuple[Tensor, Tensor]:
    """Cuts histories into windows from their ends, and weighs the tokens to be foretold. [windows, tokens] each

    Each movie is foretold once, behind at least half a window if there is as much. BOS begins a window.
    """
    levels = len(sequences[0][0])
    length, stride = 1 + (HISTORY + 1) * levels, HISTORY // 2 + 1
    rows, wanted = [], []
    for history, worth in zip(sequences, weights, strict=True):
        for end in range(len(history), 0, -stride):
            begin = max(0, end - HISTORY - 1)
            told = [0.0] * max(0, end - stride - begin) + worth[max(begin, end - stride) : end]
            if sum(told):
                ids = [bos, *(token for movie in history[begin:end] for token in movie)]
                rows.append(ids + [pad] * (length - len(ids)))
                wanted.append([0.0, *np.repeat(told, levels)] + [0.0] * (length - len(ids)))
    return torch.tensor(rows), torch.tensor(wanted)


def _loss(model: Any, ids: Tensor, weights: Tensor) -> Tensor:
    kept = weights[:, 1:] > 0
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1][kept]
    losses = nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][kept], reduction="none")
    return (losses * weights[:, 1:][kept]).sum() / weights[:, 1:][kept].sum()
