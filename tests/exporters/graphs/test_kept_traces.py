"""Equal modules are traced once a run: what tells them apart is theirs alone, not the process's."""

from functools import partial

import torch
from torch import nn

from support.sharing.content import content_hash


def _scaled(scale: float, module: nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
    return scale * inputs[0]


def _hooked(*scales: float) -> nn.Module:
    module = nn.ReLU()
    for scale in scales:
        module.register_forward_pre_hook(partial(_scaled, scale))
    return module


def test_hooks_count_by_what_they_are_not_by_how_many_there_were() -> None:
    hashes = {content_hash(_hooked(2.0, 3.0)) for _ in range(3)}
    assert len(hashes) == 1
    assert hashes.isdisjoint(
        content_hash(module) for module in (_hooked(), _hooked(2.0), _hooked(3.0, 2.0), _hooked(2.0, 4.0))
    )
