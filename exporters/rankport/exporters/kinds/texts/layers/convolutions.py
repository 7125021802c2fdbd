"""Convolutions over the tokens of padded texts: what stands behind a text is zero, as where it ends by itself.

ConvBERT's layers convolve their states past the attention mask. Their own padding of a text alone is zeros, so states
of padding tokens that are set to zero before each convolution make a text's answer that of the text alone.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def convolutions_within_texts(model: nn.Module) -> Iterator[None]:
    """Has the convolutions of a model, while open, read zeros behind the texts of its attention mask, if it has any."""
    layers = [part for part in model.modules() if hasattr(part, "key_conv_attn_layer")]
    with ExitStack() as hooks:
        for hook in _hooks(model.base_model, layers) if layers else ():
            hooks.callback(hook.remove)
        yield


def _hooks(body: Any, layers: Sequence[Any]) -> Iterator[Any]:
    masks: list[Tensor] = []  # of the call that runs: [texts, tokens]
    parameters = inspect.signature(body.forward)

    def begin(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        mask = parameters.bind(*arguments, **named).arguments.get("attention_mask")
        masks[:] = [] if mask is None else [mask]

    def zero_columns(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(_times(states, masks, lambda mask: mask[:, None, :]) for states in arguments)

    def zero_rows(_: nn.Module, __: tuple[Tensor, ...], states: Tensor) -> Tensor:
        return _times(states, masks, lambda mask: mask[:, :, None])

    yield body.register_forward_pre_hook(begin, with_kwargs=True)
    for layer in layers:
        yield layer.key_conv_attn_layer.depthwise.register_forward_pre_hook(zero_columns)
        yield layer.conv_out_layer.register_forward_hook(zero_rows)


def _times(states: Tensor, masks: list[Tensor], shaped: Callable[[Tensor], Tensor]) -> Tensor:
    return states * shaped(masks[0]).to(states.dtype) if masks else states
