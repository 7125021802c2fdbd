"""Every choice of a grounding run. Imports little, so that the command line can show the defaults."""

from dataclasses import dataclass
from typing import Literal

from rankport.protos.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingOptions:
    """Defaults were chosen by evidence: docs/vocabulary.md."""

    init: Literal["grounded", "mean", "random"] = "grounded"
    epochs: int = 10  # at most; 0 leaves the rows where they start
    batch_size: int = 32  # pairs
    # Of AdamW after warm-up, in root mean squares of the pretrained values: tables differ in scale, and a step of
    # AdamW is about its learning rate in every value. A cosine takes it to zero.
    learning_rate: float = 0.1
    weight_decay: float = 0.0
    warmup: float = 0.05  # share of the steps
    held_out: float = 0.1  # share of the items (distinct token sequences) kept out of training
    patience: int = 2  # epochs without a better held-out loss before stopping
    max_text_tokens: int = 64
    seed: int = 0
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
