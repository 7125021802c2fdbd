"""Training of an encoder of titles: one linear layer over MiniLM's mean states, drawing a user's titles together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.audit.dataset import Users
from examples.intent.checkpoint import save_classifier
from examples.intent.training import MAX_TOKENS, Body


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Choices of a run."""

    seed: int = 0
    steps: int = 1500
    users: int = 128  # a step, two titles of each
    rate: float = 1e-3
    temperature: float = 0.05
    check_every: int = 5
    patience: int = 2  # checks without a better loss of users to validate with


@dataclass(frozen=True, slots=True)
class Trained:
    """Both encoders of a run: as it was when the loss of other users was least, and at its end."""

    stopped: nn.Linear
    stopped_at: int  # steps
    longest: nn.Linear


@dataclass(frozen=True, slots=True)
class UserStates:
    """Mean states of the titles of users."""

    states: Tensor  # [titles, width]
    ends: Tensor  # [users] place behind each user's last title

    @classmethod
    def of(cls, body: Body, users: Users) -> "UserStates":
        """Computes them."""
        states = body.states_to_learn_from([title for titles in users.values() for title in titles])
        return cls(states, torch.tensor([len(titles) for titles in users.values()]).cumsum(0))

    def pairs(self, users: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws two titles of each user. [users, width] twice"""
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), self.ends[:-1]])[users]
        counts = self.ends[users] - starts
        one = (torch.rand(len(users), generator=random) * counts).long()
        step = 1 + (torch.rand(len(users), generator=random) * (counts - 1)).long()
        return self.states[starts + one], self.states[starts + (one + step) % counts]


def train(members: UserStates, validation: UserStates, recipe: Recipe = Recipe()) -> Trained:
    """Trains to the end, and keeps the layer of the step at which the loss of other users was least."""
    random = torch.Generator().manual_seed(recipe.seed)
    linear = _identity(members.states.shape[1])
    stopped, stopped_at, least, worse = _copy(linear), 0, float("inf"), 0
    checks = validation.pairs(torch.arange(len(validation.ends)), random)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=recipe.rate, weight_decay=0.0)
    for step in range(recipe.steps):
        if step % recipe.check_every == 0 and worse < recipe.patience:
            with torch.inference_mode():
                loss = float(_loss(linear, *checks, recipe.temperature))
            worse = 0 if loss < least else worse + 1
            if loss < least:
                stopped, stopped_at, least = _copy(linear), step, loss
        users = torch.randperm(len(members.ends), generator=random)[: recipe.users]
        optimizer.zero_grad()
        _loss(linear, *members.pairs(users, random), recipe.temperature).backward()
        optimizer.step()
    return Trained(stopped, stopped_at, linear)


def save(body: Body, linear: nn.Linear, path: Path) -> Path:
    """Writes the folder of sentence-transformers: MiniLM, mean pooling, the layer. Returns its path."""
    return save_classifier(body.model, body.tokenizer, [(linear, nn.Identity())], (), MAX_TOKENS, path)


def _loss(linear: Callable[[Tensor], Tensor], one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Computes how badly a title finds the other one of its user among those of all users."""
    ours, theirs = (nn.functional.normalize(linear(states), dim=1) for states in (one, other))
    return nn.functional.cross_entropy(ours @ theirs.T / temperature, torch.arange(len(ours)))


def _identity(width: int) -> nn.Linear:
    linear = nn.Linear(width, width)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _copy(linear: nn.Linear) -> nn.Linear:
    copied = nn.Linear(linear.in_features, linear.out_features)
    copied.load_state_dict(linear.state_dict())
    return copied
