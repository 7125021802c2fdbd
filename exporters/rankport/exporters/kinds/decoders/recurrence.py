"""Recurrent layers of hybrid decoders: each item goes on from the states that its prefix ends in.

A state is of a prefix as a whole, not of its tokens: see `SharedPrefix.carried`.

requires: items that can be told apart, of which the first of a prefix is the prefix itself where states are kept.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.recurrences import (
    Mixing,
    States,
    convolved,
    convolved_by_terms,
    mixing_by,
)
from rankport.exporters.kinds.decoders.items_apart import ItemsApart
from rankport.exporters.kinds.decoders.linear_attention import attend_linearly
from rankport.exporters.kinds.decoders.shared_prefix import current_prefix
from rankport.protos.errors import CheckpointError


class Recurrence:
    """Layer under way and the past of its pass."""

    def __init__(self) -> None:
        self._layer, self._mixer = -1, ""
        self._shared: ItemsApart | None = None

    def enter(self, layer: int, part: nn.Module, arguments: object) -> None:
        """Notes the layer that is called, and its pass."""
        shared = current_prefix()
        self._layer, self._mixer = layer, type(part).__name__
        self._shared = shared if isinstance(shared, ItemsApart) else None

    def convolve(self, states: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
        """Convolves the tokens of each item with those before them: see `recurrences.Convolve`."""
        shared, kernel = self._pass(), weight.shape[-1]
        tokens = states.transpose(1, 2)
        channels = tokens.shape[2]
        past = self._past("conv_state", (channels, kernel - 1), tokens)
        before = past.transpose(1, 2)
        convolve = convolved if shared.convolves_by_operator else convolved_by_terms
        mixed = convolve(shared.for_items(before), shared.by_item(tokens), weight, bias, activation)
        # The last tokens that exist, of the states before them and the prefix's own.
        counts = shared.place_exists().to(torch.int64).sum(1)
        last = (counts[:, None] + torch.arange(kernel - 1))[..., None].expand(-1, -1, channels)
        state = torch.cat([before, shared.by_prefix(tokens)], 1).gather(1, last).transpose(1, 2)
        general = shared.from_items(mixed, tokens), state
        tokens, state = shared.convolved(general, tokens, (weight, bias), activation, past)
        shared.carried[f"conv_state.{self._layer}"] = state
        return tokens.transpose(1, 2)

    def attend(self, states: States, decay: Tensor, beta: Tensor | None, *, scale: float) -> Tensor:
        """Attends linearly from the carried state on: see `recurrences.Attend`."""
        shared = self._pass()
        _, key, value = states
        past = self._past("recurrent_state", (*key.shape[2:], value.shape[-1]), value)
        general = attend_linearly(shared, states, decay, beta, past, scale=scale)
        mixed, state = shared.attended_linearly(general, states, (decay, beta), past, scale=scale)
        shared.carried[f"recurrent_state.{self._layer}"] = state
        return mixed

    def _pass(self) -> ItemsApart:
        if self._shared is None:
            raise CheckpointError(
                f"layer {self._layer} ({self._mixer}) is recurrent: the state that a prefix ends in reaches items that "
                "can be told apart alone"
            )
        return self._shared

    def _past(self, part: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Gives what a prefix carries to the layer, zeros where nothing is before it. [prefixes, *shape]"""
        shared, name = self._pass(), f"{part}.{self._layer}"
        if name in shared.carried:
            raise CheckpointError(f"layer {self._layer} has more than one {part}: one can be carried")
        if shared.past_carried:
            return shared.past_carried[name]
        return like.new_zeros(shared.place_exists().shape[0], *shape)


@contextmanager
def going_on_from_prefix(model: nn.Module) -> Iterator[None]:
    """Has recurrent layers of the model, while open, go on from what a `ItemsApart` carries."""
    recurrence = Recurrence()
    with ExitStack() as stack:
        stack.enter_context(mixing_by(model, Mixing(recurrence.attend, recurrence.convolve)))
        for part in model.modules():
            if isinstance(layer := getattr(part, "layer_idx", None), int):
                hook = part.register_forward_pre_hook(partial(recurrence.enter, layer))
                stack.callback(hook.remove)
        yield


def carrying_layer(name: str) -> int:
    """Tells the layer of what is carried by a name of `SharedPrefix.carried`."""
    return int(name.rpartition(".")[2])
