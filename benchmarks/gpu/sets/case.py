"""Rankers of sets that are measured, HSTU and LiGR with either mask; their requests, and their arithmetic.

Five blocks of 512, a history of 1,024 events and 2,048 candidates, 32 requests at once; both are ids of one table.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankport.exporters.checkpoints.set_ranker.config import Block, SetRankerConfig
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.protos.sets import SetQuery

Policy = Literal["independent", "set-wise"]
HeldIn = Literal["fp16", "bf16", "fp32"]
ITEM, NOW = "item", 10_000_000
_HEADS = ("click", "dwell", "like")
_FFN_MULTIPLE = 4  # of LiGR
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SetShape:
    """Sizes of a model and of its requests."""

    blocks: int
    hidden: int
    heads: int
    items: int  # rows of the table
    events: int
    candidates: int
    requests: int  # at once


FULL = SetShape(5, 512, 8, 65_536, 1024, 2048, 32)
TINY = SetShape(2, 32, 2, 20_000, 24, 16, 4)


@dataclass(frozen=True, slots=True)
class SetCase:
    """A kind of block, who sees whom, and what weights and states are held in."""

    block: Block
    policy: Policy
    held_in: HeldIn = "fp16"

    @property
    def name(self) -> str:
        """In the report."""
        return f"{self.block} {self.policy} {self.held_in}"


CASES = (
    SetCase("hstu", "independent"),
    SetCase("ligr", "set-wise"),
    SetCase("hstu", "set-wise"),
    SetCase("ligr", "independent"),
    SetCase("hstu", "independent", "bf16"),
    SetCase("hstu", "independent", "fp32"),
)
"""The most telling first."""
PEER_CASES = tuple(SetCase(case.block, case.policy) for case in CASES if case.held_in == "fp16")


def random_model(case: SetCase, shape: SetShape) -> SetRankerModel:
    """Makes the module of a case, its weights drawn at random, the same each time; HSTU with its biases."""
    timed = case.block == "hstu"
    ids = [{"source": "id", "name": ITEM, "table": ITEM}]
    fields: dict[str, Any] = {
        "hidden_size": shape.hidden,
        "attention_heads": shape.heads,
        "blocks": [case.block] * shape.blocks,
        "ffn_multiple": _FFN_MULTIPLE,
        "positions": shape.events if timed else 0,
        "time_buckets": 32 if timed else 0,
        "towers": [{"name": "all", "outputs": list(_HEADS)}],
        "score": "logit",
        "sets": {
            "tables": {ITEM: {"rows": shape.items, "width": shape.hidden}},
            "event": ids,
            "candidate": ids,
            "mask": {"policy": case.policy},
            "max_events": shape.events,
            "max_candidates": shape.candidates,
            "times": timed,
        },
    }
    torch.manual_seed(0)
    model = SetRankerModel(SetRankerConfig.model_validate(fields)).eval().requires_grad_(False)
    for name, value in model.named_parameters():
        if ".bias.by_" in name:
            value.normal_(std=0.1)
    return model


@dataclass(frozen=True, slots=True)
class SetRequest:
    """Ids of a request. Events are a minute apart, the last at the time of the request."""

    events: Ids
    candidates: Ids

    @property
    def times(self) -> Ids:
        """When events were. [events]"""
        return NOW - 60 * np.arange(len(self.events))[::-1]

    def behind(self, other: Self) -> Self:
        """Takes these candidates, and the history of another request."""
        return type(self)(other.events, self.candidates)

    def query(self, *, timed: bool) -> SetQuery:
        """Makes what a ranker is asked."""
        when: dict[str, Any] = {"times": self.times, "now": NOW} if timed else {}
        return SetQuery.of({ITEM: self.events}, {ITEM: self.candidates}, **when)


def drawn(shape: SetShape, rng: np.random.Generator) -> SetRequest:
    """Draws a request."""
    return SetRequest(
        rng.integers(0, shape.items, shape.events), rng.integers(0, shape.items, shape.candidates)
    )


def expected(model: SetRankerModel, request: SetRequest) -> tuple[list[Tensor], Tensor]:
    """Computes a request by the module itself, on the CPU in fp32: the state of its history, and its logits."""
    times, now = torch.from_numpy(request.times), torch.tensor([NOW])
    events = model.event_features({ITEM: torch.from_numpy(request.events)})
    rows = model.candidate_features({ITEM: torch.from_numpy(request.candidates)})
    with torch.inference_mode():
        state = model.history(events, times, model.no_past(), torch.zeros(0, dtype=torch.int64))
        together = model.config.sets.mask.policy == "set-wise"
        sessions = torch.zeros(len(rows), dtype=torch.int64) if together else None
        return state, model.rank(rows, now, state, times, sessions)


def flops(case: SetCase, shape: SetShape, *, cached: bool) -> float:
    """Floating-point operations that the logits of one request need, a multiply-add counted as two.

    Per row and block: 2 x the weights of its matrices, and 4 x hidden for each row that it sees, itself included. Of a
    history that is not `cached` all blocks, of the last keys and values alone.
    """
    hidden = shape.hidden
    matrices = 5 if case.block == "hstu" else 6 + 3 * _FFN_MULTIPLE  # of hidden x hidden
    block = 2 * matrices * hidden**2
    seen = shape.events + (shape.candidates if case.policy == "set-wise" else 1)
    ends = 2 * hidden**2 + 2 * hidden * len(_HEADS)  # features in, logits out
    rank = shape.candidates * (shape.blocks * (block + 4 * hidden * seen) + ends)
    if cached:
        return float(rank)
    behind = (shape.events + 1) / 2  # on average
    whole = (shape.blocks - 1) * (block + 4 * hidden * behind)
    return float(rank + shape.events * (whole + 2 * 2 * hidden**2 + 2 * hidden**2))
