"""Grounding itself: AdamW on the new rows of a frozen model, stopped early on held-out items, resumable to the bit.

Owns the loop. Rows start elsewhere (`starts`), the loss is elsewhere (`objective`), state on disk too
(`grounding_state`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from rankport.exporters.vocabulary.grounding.objective import (
    EncodedPair,
    batches,
    held_out_losses,
    text_to_tokens,
    tokens_to_text,
)
from rankport.exporters.vocabulary.grounding.options import GroundingOptions
from rankport.exporters.vocabulary.grounding.state import EpochLosses, Progress, StateFile
from rankport.exporters.vocabulary.grounding.trainable_rows import TrainableRows


@dataclass(frozen=True, slots=True)
class Split:
    """Pairs to train on, and pairs of items that training never sees."""

    train: tuple[EncodedPair, ...]
    held_out: tuple[EncodedPair, ...]


def split_pairs(pairs: Sequence[EncodedPair], share: float, seed: int) -> Split:
    """Holds out a share of the distinct token sequences, at least one, with all their pairs."""
    items = sorted({pair.tokens for pair in pairs})
    count = min(len(items) - 1, max(1, round(share * len(items))))
    chosen = np.random.default_rng(seed).choice(len(items), count, replace=False)
    out = {items[row] for row in chosen}
    return Split(
        tuple(pair for pair in pairs if pair.tokens not in out),
        tuple(pair for pair in pairs if pair.tokens in out),
    )


class Grounding:
    """One run over one model. `run` ends with the best rows in the model."""

    def __init__(
        self, model: TrainableRows, split: Split, start: int | None, options: GroundingOptions
    ) -> None:
        """Takes as `start` the id of [BOS], if there is one."""
        self._model, self._split, self._start, self._options = model, split, start, options
        self._steps_an_epoch = math.ceil(len(split.train) / options.batch_size)
        self._optimizer = torch.optim.AdamW(
            [{"params": [rows], "scale": model.scales[name]} for name, rows in model.parameters.items()],
            lr=options.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=options.weight_decay,
        )
        self._best = _copy(model.parameters)

    def run(self, state: StateFile, on_progress: Callable[[str], None] = lambda _: None) -> Progress:
        """Trains to the end, from where `state` has it. Returns the epochs' losses; the first is before training."""
        progress = self._restore(state)
        if progress is None:
            progress = Progress(0, 0, (self._measure(0, float("nan")),))
            state.save(progress, self._tensors())
        while progress.epoch < self._options.epochs and not self._stopped(progress):
            progress = self._epoch(progress, state, on_progress)
            state.save(progress, self._tensors())
        _put(self._model.parameters, self._best)
        return progress

    def _epoch(self, progress: Progress, state: StateFile, on_progress: Callable[[str], None]) -> Progress:
        options = self._options
        rng = np.random.default_rng((options.seed, progress.epoch))
        order = batches(self._split.train, options.batch_size, rng)
        for part in islice(order, progress.step, None):
            loss = self._step(part, progress.epoch * self._steps_an_epoch + progress.step)
            progress = replace(progress, step=progress.step + 1, loss_sum=progress.loss_sum + loss)
            on_progress(
                f"epoch {progress.epoch + 1} of {options.epochs}, step {progress.step} of {self._steps_an_epoch}, "
                f"held-out loss {progress.losses[-1].held_out:.3f}"
            )
            if progress.step % options.save_every_steps == 0:
                state.save(progress, self._tensors())
        measured = self._measure(progress.epoch + 1, progress.loss_sum / self._steps_an_epoch)
        if measured.held_out < min(loss.held_out for loss in progress.losses):
            self._best = _copy(self._model.parameters)
        return Progress(progress.epoch + 1, 0, (*progress.losses, measured))

    def _step(self, part: list[EncodedPair], number: int) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._options.learning_rate * group["scale"] * self._factor(number)
        loss = torch.zeros(())
        for batch in (text_to_tokens(part, self._start), tokens_to_text(part, self._start)):
            loss = loss - self._model.log_probabilities(batch.ids, batch.mask, batch.predicted).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.item()

    def _factor(self, step: int) -> float:
        """Computes a linear warm-up, then a cosine to zero."""
        total = self._options.epochs * self._steps_an_epoch
        warmup = max(1, round(self._options.warmup * total))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    def _measure(self, epoch: int, train: float) -> EpochLosses:
        to_tokens, to_text = held_out_losses(
            self._model, self._split.held_out, self._start, self._options.batch_size
        )
        return EpochLosses(epoch, train, to_tokens, to_text)

    def _stopped(self, progress: Progress) -> bool:
        losses = [loss.held_out for loss in progress.losses]
        return len(losses) - 1 - int(np.argmin(losses)) >= self._options.patience

    def _tensors(self) -> dict[str, Tensor]:
        """Collects rows, best rows and the optimizer's moments, by name."""
        tensors = {f"best.{name}": rows for name, rows in self._best.items()}
        for name, parameter in self._model.parameters.items():
            tensors[f"rows.{name}"] = parameter.detach()
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        return tensors

    def _restore(self, state: StateFile) -> Progress | None:
        saved = state.load()
        if saved is None:
            return None
        progress, tensors = saved
        for name, parameter in self._model.parameters.items():
            self._best[name] = tensors[f"best.{name}"]
            with torch.no_grad():
                parameter.copy_(tensors[f"rows.{name}"])
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in tensors]
            self._optimizer.state[parameter] = {key: tensors[f"{key}.{name}"] for key in keys}
        return progress


def _copy(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def _put(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
