"""Choices of a grounding run. Imports little, so that the command line can show them."""

from dataclasses import dataclass, field
from typing import Literal

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingOptions:
    """Choices of a grounding run. Their defaults were chosen by evidence: docs/vocabulary.md."""

    init: Literal["grounded", "mean", "random"] = field(
        default="grounded",
        metadata=flag("Where rows start: grounded (from the paired texts), mean or random.", metavar="START"),
    )
    epochs: int = field(default=10, metadata=flag("Passes over the pairs at most; 0 only starts the rows."))
    batch_size: int = field(default=32, metadata=flag("Pairs a step."))
    # After warm-up: tables differ in scale, and a step of AdamW is about its learning rate in every value. A cosine
    # takes it to zero.
    learning_rate: float = field(
        default=0.1,
        metadata=flag("Learning rate of AdamW, as a share of the root mean square of pretrained values."),
    )
    weight_decay: float = field(default=0.0, metadata=flag("Weight decay of AdamW."))
    warmup: float = 0.05  # share of the steps
    # Of distinct token sequences.
    held_out: float = field(
        default=0.1, metadata=flag("Share of the items kept out of training, to measure and to stop by.")
    )
    patience: int = field(default=2, metadata=flag("Epochs without a better held-out loss before stopping."))
    max_text_tokens: int = field(default=64, metadata=flag("Texts are cut here."))
    seed: int = field(default=0, metadata=flag("Seed of start, split and order."))
    save_every_steps: int = 100  # what a killed run loses at most

    def __post_init__(self) -> None:
        for name, low in (
            ("epochs", 0),
            ("batch_size", 1),
            ("patience", 1),
            ("max_text_tokens", 1),
            ("save_every_steps", 1),
        ):
            if getattr(self, name) < low:
                raise InvalidRequest(f"{_flag(name)} is {getattr(self, name)}: must be at least {low}")
        if not 0 < self.learning_rate < float("inf"):
            raise InvalidRequest(f"--learning-rate is {self.learning_rate}: must be over 0")
        if not 0 <= self.weight_decay < float("inf"):
            raise InvalidRequest(f"--weight-decay is {self.weight_decay}: must be a number from 0 on")
        for name in ("held_out", "warmup"):
            if not 0 < getattr(self, name) < 1:
                raise InvalidRequest(f"{_flag(name)} is {getattr(self, name)}: must lie between 0 and 1")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
