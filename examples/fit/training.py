"""Training of the fit classifier: MiniLM's body reads job and candidate together; mean states, an MLP, three levels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from examples.esco.minilm import minilm_path
from examples.esco.upper_layers import freeze, lower_states, run_layers
from examples.fit.dataset import LEVELS, FitPairs
from examples.intent.checkpoint import logits_of, mean_states, save_classifier, train_steps

MAX_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Choices of a run."""

    seed: int = 7
    epochs: int = 1
    batch: int = 32
    rate: float = 2e-4
    head_rate: float = 2e-3
    hidden: int = 128
    frozen_layers: int = 2  # the lowest, and the embeddings


@dataclass(frozen=True, slots=True)
class FitModel:
    """Body, tokenizer and head."""

    body: Any
    tokenizer: Any
    layers: list[tuple[nn.Linear, nn.Module]]

    def logits(self, pairs: Sequence[tuple[str, str]]) -> Tensor:
        """Computes the logits of pairs in one batch. [pairs, levels]"""
        firsts, seconds = map(list, zip(*pairs, strict=True))
        encoded = self.tokenizer(
            firsts, seconds, truncation=True, max_length=MAX_TOKENS, padding="longest", return_tensors="pt"
        )
        return logits_of(self.layers, mean_states(self.body, encoded))

    def predict(self, pairs: Sequence[tuple[str, str]], batch: int = 64) -> list[int]:
        """Tells the likeliest level of each pair, those of similar length together."""
        levels = np.empty(len(pairs), np.int64)
        order = np.argsort([len(first) + len(second) for first, second in pairs], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(pairs), batch):
                rows = order[start : start + batch]
                levels[rows] = self.logits([pairs[row] for row in rows]).argmax(dim=1).numpy()
        return [int(level) for level in levels]

    def save(self, path: Path) -> Path:
        """Writes the checkpoint folder."""
        return save_classifier(self.body, self.tokenizer, self.layers, LEVELS, MAX_TOKENS, path)


def train(
    examples: FitPairs,
    recipe: Recipe = Recipe(),
    on_step: Callable[[int, int, float], None] = lambda *_: None,
) -> FitModel:
    """Fine-tunes the upper layers and a head on pairs with levels."""
    torch.manual_seed(recipe.seed)
    model = _start(recipe)
    upper = freeze(model.body, recipe.frozen_layers)
    head = [weight for linear, _ in model.layers for weight in linear.parameters()]
    in_epoch = len(examples.levels) // recipe.batch
    steps = recipe.epochs * in_epoch
    optimizer, schedule = train_steps(
        [{"params": upper, "lr": recipe.rate}, {"params": head, "lr": recipe.head_rate}], steps
    )
    encoded = model.tokenizer(examples.jobs, examples.candidates, truncation=True, max_length=MAX_TOKENS)
    pairs = lower_states(model.body, encoded["input_ids"], encoded["token_type_ids"], recipe.frozen_layers)
    wanted = torch.tensor(examples.levels)
    for step in range(steps):
        if step % in_epoch == 0:
            order = torch.randperm(len(wanted))
        rows = order[step % in_epoch * recipe.batch :][: recipe.batch]
        states = run_layers(model.body.encoder.layer[recipe.frozen_layers :], pairs.of(rows.tolist()))
        loss = nn.functional.cross_entropy(logits_of(model.layers, states.means()), wanted[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        on_step(step + 1, steps, loss.item())
    return model


def _start(recipe: Recipe) -> FitModel:
    tokenizer = AutoTokenizer.from_pretrained(minilm_path(), local_files_only=True)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    body = AutoModel.from_pretrained(minilm_path(), local_files_only=True, dtype=torch.float32).eval()
    hidden = nn.Linear(body.config.hidden_size, recipe.hidden)
    levels = nn.Linear(recipe.hidden, len(LEVELS))
    return FitModel(body, tokenizer, [(hidden, nn.ReLU()), (levels, nn.Identity())])
