"""State that a killed grounding run leaves behind to go on from: one safetensors file, written beside and renamed.

Its metadata hold the progress as JSON, and what the run was started with: another run does not take it for its own.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rankport.protos.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class EpochLosses:
    """Mean losses in nats a predicted token; epoch 0 is before training."""

    epoch: int
    train: float  # both directions summed, NaN before training
    text_to_tokens: float  # held out
    tokens_to_text: float  # held out

    @property
    def held_out(self) -> float:
        """Loss of both directions summed, as trained."""
        return self.text_to_tokens + self.tokens_to_text


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run."""

    epoch: int  # epochs done
    step: int  # steps done in the current one
    losses: tuple[EpochLosses, ...]
    loss_sum: float = 0.0  # of the current epoch's steps

    @property
    def best(self) -> EpochLosses:
        """The epoch whose rows are kept."""
        return min(self.losses, key=lambda losses: losses.held_out)


@dataclass(frozen=True, slots=True)
class StateFile:
    """The place where a run keeps its state, and what the run is."""

    path: Path
    identity: dict[str, object]  # checkpoint, pairs, rows and options, as JSON has them

    def save(self, progress: Progress, tensors: dict[str, Tensor]) -> None:
        """Replaces the state on disk at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".writing")
        content = json.dumps({"identity": self.identity, "progress": asdict(progress)})
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, beside, {"grounding": content}
        )
        os.replace(beside, self.path)

    def load(self) -> tuple[Progress, dict[str, Tensor]] | None:
        """Reads the state on disk, None if there is none. InvalidRequest if it is another run's."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as stored:
                content = json.loads(stored.metadata()["grounding"])
                tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
            progress = content["progress"]
            losses = tuple(EpochLosses(**losses) for losses in progress["losses"])
            done = Progress(progress["epoch"], progress["step"], losses, progress["loss_sum"])
            identity = content["identity"]
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(
                f"{self.path} is no state of a grounding run ({error!r}): remove it"
            ) from error
        ours = json.loads(json.dumps(self.identity))
        changed = sorted(key for key in ours.keys() | identity.keys() if ours.get(key) != identity.get(key))
        if changed:
            raise InvalidRequest(
                f"--resume: {self.path} was made with {changed[0]} = {identity.get(changed[0])!r}, not "
                f"{ours.get(changed[0])!r}: give what it was started with, or remove the file"
            )
        return done, tensors
