"""Training of an intent classifier: one linear layer over MiniLM's mean states, whose body stays as it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from examples.esco.minilm import minilm_path
from examples.esco.upper_layers import by_length, lower_states
from examples.intent.checkpoint import logits_of, mean_states, save_classifier, train_steps
from examples.intent.dataset import IntentTexts

MAX_TOKENS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Choices of a run."""

    seed: int = 0
    epochs: int = 20
    batch: int = 128
    rate: float = 1e-2


@dataclass(frozen=True, slots=True)
class Body:
    """MiniLM as it is, which states of texts are computed with once."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls) -> "Body":
        """Loads it offline, without the padding and truncation that its tokenizer.json stores."""
        tokenizer = AutoTokenizer.from_pretrained(minilm_path(), local_files_only=True)
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        model = AutoModel.from_pretrained(minilm_path(), local_files_only=True, dtype=torch.float32)
        return cls(model.eval(), tokenizer)

    def states(self, texts: Sequence[str]) -> Tensor:
        """Computes the mean states of texts as the checkpoint does, in float32. [texts, width]"""
        ids = self._ids(texts)
        states = torch.empty(len(ids), self.model.config.hidden_size)
        for rows in by_length([len(run) for run in ids]):
            part = self.tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            with torch.inference_mode():
                states[rows] = mean_states(self.model, part)
        return states

    def states_to_learn_from(self, texts: Sequence[str]) -> Tensor:
        """Computes nearly the same, in a third of the time. [texts, width]"""
        ids = self._ids(texts)
        types = [[0] * len(run) for run in ids]
        return lower_states(self.model, ids, types, self.model.config.num_hidden_layers).means()

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS)[
            "input_ids"
        ]
        return ids


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head, and the intents that it tells, in its order."""

    linear: nn.Linear
    intents: tuple[str, ...]

    def predict(self, states: Tensor) -> list[str]:
        """Names the likeliest intent of each row of states."""
        with torch.inference_mode():
            rows = logits_of([(self.linear, nn.Identity())], states).argmax(dim=1)
        return [self.intents[row] for row in rows.tolist()]

    def save(self, body: Body, path: Path) -> Path:
        """Writes the checkpoint folder."""
        layers = [(self.linear, nn.Identity())]
        return save_classifier(body.model, body.tokenizer, layers, self.intents, MAX_TOKENS, path)


def train_head(states: Tensor, examples: IntentTexts, recipe: Recipe = Recipe()) -> TrainedHead:
    """Fits a linear layer to the states of texts. [texts, width]"""
    torch.manual_seed(recipe.seed)
    intents = tuple(sorted(set(examples.intents)))
    places = {name: place for place, name in enumerate(intents)}
    wanted = torch.tensor([places[name] for name in examples.intents])
    linear = nn.Linear(states.shape[1], len(intents))
    in_epoch = len(wanted) // recipe.batch
    optimizer, schedule = train_steps(
        [{"params": list(linear.parameters()), "lr": recipe.rate}], recipe.epochs * in_epoch
    )
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(wanted))[: in_epoch * recipe.batch].split(recipe.batch):
            loss = nn.functional.cross_entropy(linear(states[rows]), wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return TrainedHead(linear, intents)
