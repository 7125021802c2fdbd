"""Recurrent layers of hybrid decoders: each item goes on from the states that its prefix ends in.

Owns what runs in the place of the functions by which transformers' models mix tokens outside attention: the causal
convolution, the gated delta rule (arXiv 2412.06464) and the scan of Mamba 2 (arXiv 2405.21060). The layers around them
stay the checkpoint's own code. A state is of a prefix as a whole, not of its tokens: see `SharedPrefix.carried`.

requires: packed tokens, of which the first item of a prefix is the prefix itself where states are kept.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from rankport.exporters.kinds.decoders.linear_attention import attend_linearly
from rankport.exporters.kinds.decoders.packed_attention import PackedPrefix
from rankport.exporters.kinds.decoders.shared_prefix import KEYWORD
from rankport.protos.errors import CheckpointError


class Recurrence:
    """Layer under way and the past of its pass; without one, transformers' own functions are called."""

    def __init__(self) -> None:
        self.layer = -1
        self.shared: PackedPrefix | None = None

    def convolve(
        self,
        own: Callable[..., Tensor],
        hidden_states: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: str | None = None,
        **kwargs: object,
    ) -> Tensor:
        """Convolves the channels of tokens [1, channels, tokens] with those before them. weight [channels, kernel]"""
        shared, kernel = self.shared, weight.shape[-1]
        if shared is None:
            return own(hidden_states, weight, bias, activation=activation, **kwargs)
        rows = shared.item_rows(hidden_states.transpose(1, 2))
        length, channels = rows.shape[1:]
        past = self._past("conv_state", (kernel - 1, channels), rows)
        sequence = torch.cat([shared.by_item(past), rows], 1)
        taps = [sequence[:, tap : tap + length] * weight[:, tap] for tap in range(kernel)]
        mixed = sum(taps[1:], taps[0])
        if bias is not None:
            mixed = mixed + bias
        if activation is not None:
            mixed = ACT2FN[activation](mixed)
        # The last tokens that exist, of the states before them and the prefix's own.
        counts = shared.item_lengths().reshape(shared.slots.shape[:2])[:, 0]
        last = (counts[:, None] + torch.arange(kernel - 1))[..., None].expand(-1, -1, channels)
        shared.carried[f"conv_state.{self.layer}"] = shared.first_items(sequence).gather(1, last)
        return shared.item_tokens(mixed).transpose(1, 2)

    def gated_delta(
        self,
        own: Callable[..., tuple[Tensor, Tensor | None]],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        g: Tensor,
        beta: Tensor,
        *,
        use_qk_l2norm_in_kernel: bool = False,
        **kwargs: object,
    ) -> tuple[Tensor, Tensor | None]:
        """Applies the gated delta rule to [1, tokens, heads, width]; g and beta [1, tokens, heads]."""
        if self.shared is None:
            return own(
                query, key, value, g=g, beta=beta, use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel, **kwargs
            )
        copies = value.shape[2] // key.shape[2]
        if use_qk_l2norm_in_kernel:
            query, key = (_unit(states) for states in (query, key))
        query, key = (states.repeat_interleave(copies, 2) for states in (query, key))
        return self._attend((query, key, value), g, beta, scale=query.shape[-1] ** -0.5), None

    def mamba2(
        self,
        own: Callable[..., Any],
        hidden_states: Tensor,
        dt: Tensor,
        A: Tensor,  # noqa: N803  # the names by which transformers calls it
        B: Tensor,  # noqa: N803
        C: Tensor,  # noqa: N803
        chunk_size: int,
        D: Tensor | None = None,  # noqa: N803
        dt_bias: Tensor | None = None,
        dt_softplus: bool = False,
        dt_limit: tuple[float, float] = (0.0, float("inf")),
        **kwargs: object,
    ) -> Any:
        """Scans [1, tokens, heads, width] with steps dt [1, tokens, heads]; B and C [1, tokens, groups, states]."""
        if self.shared is None:
            options = {"D": D, "dt_bias": dt_bias, "dt_softplus": dt_softplus, "dt_limit": dt_limit}
            return own(hidden_states, dt, A, B, C, chunk_size, **options, **kwargs)
        steps = dt if dt_bias is None else dt + dt_bias
        steps = torch.nn.functional.softplus(steps) if dt_softplus else steps
        steps = steps.clamp(min=dt_limit[0], max=dt_limit[1])
        copies = hidden_states.shape[2] // B.shape[2]
        query, key = (states.repeat_interleave(copies, 2) for states in (C, B))
        mixed = self._attend((query, key, hidden_states * steps[..., None]), A * steps, None, scale=1.0)
        return mixed if D is None else mixed + D[:, None] * hidden_states

    def _attend(
        self, states: tuple[Tensor, Tensor, Tensor], decay: Tensor, beta: Tensor | None, *, scale: float
    ) -> Tensor:
        """Attends linearly from the carried state on. [1, tokens, heads, value width]"""
        assert self.shared is not None
        _, key, value = states
        past = self._past("recurrent_state", (*key.shape[2:], value.shape[-1]), value)
        mixed, state = attend_linearly(self.shared, states, decay, beta, past, scale=scale)
        self.shared.carried[f"recurrent_state.{self.layer}"] = state
        return mixed

    def _past(self, part: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Gives what a prefix carries to the layer, zeros where nothing is before it. [prefixes, *shape]"""
        assert self.shared is not None
        name = f"{part}.{self.layer}"
        if name in self.shared.carried:
            raise CheckpointError(f"layer {self.layer} has more than one {part}: one can be carried")
        if self.shared.past_carried:
            return self.shared.past_carried[name]
        return like.new_zeros(self.shared.slots.shape[0], *shape)


_FUNCTIONS: MappingProxyType[str, Callable[..., Any]] = MappingProxyType(
    {
        "causal_conv1d_fn": Recurrence.convolve,
        "torch_chunk_gated_delta_rule": Recurrence.gated_delta,
        "mamba2_chunk_scan": Recurrence.mamba2,
    }
)
"""By the name under which modules of transformers have them."""


@contextmanager
def going_on_from_prefix(model: nn.Module) -> Iterator[None]:
    """Has recurrent layers of the model, while open, go on from what a `PackedPrefix` carries."""
    recurrence = Recurrence()
    with ExitStack() as stack:
        for module, name in _functions_of(model):
            own = getattr(module, name)
            stack.enter_context(patch.object(module, name, partial(_FUNCTIONS[name], recurrence, own)))
        for part in model.modules():
            if isinstance(layer := getattr(part, "layer_idx", None), int):
                hook = part.register_forward_pre_hook(partial(_enter, recurrence, layer), with_kwargs=True)
                stack.callback(hook.remove)
        yield


def _functions_of(model: nn.Module) -> list[tuple[Any, str]]:
    modules = {sys.modules[type(part).__module__] for part in model.modules()}
    return [(module, name) for module in modules for name in _FUNCTIONS if hasattr(module, name)]


def _enter(
    recurrence: Recurrence, layer: int, part: nn.Module, arguments: object, kwargs: dict[str, object]
) -> None:
    shared = kwargs.get(KEYWORD)
    recurrence.layer = layer
    recurrence.shared = shared if isinstance(shared, PackedPrefix) else None


def carrying_layer(name: str) -> int:
    """Tells the layer of what is carried by a name of `SharedPrefix.carried`."""
    return int(name.rpartition(".")[2])


def _unit(states: Tensor) -> Tensor:
    return states * torch.rsqrt((states * states).sum(-1, keepdim=True) + 1e-6)
