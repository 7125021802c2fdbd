"""transformers' attention interface: the one place where a model's layers are given another attention function.

Owns the switch and its way back. What attends, a kind knows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers import AttentionInterface

Attention = Callable[..., tuple[Tensor, None]]
"""Call that a layer makes: (module, query, key, value, mask, **more) -> ([items, tokens, heads, head_dim], None)."""


@contextmanager
def attending(model: nn.Module, name: str, attention: Attention) -> Iterator[None]:
    """Has the layers of the model, while open, call `attention`; transformers knows it by `name` from then on."""
    AttentionInterface.register(name, attention)
    before = attention_of(model)
    _choose(model, name)
    try:
        yield
    finally:
        _choose(model, before)


def has_interface(model: nn.Module) -> bool:
    """Tells whether the model is one of transformers, whose layers call the function that its config names."""
    return hasattr(getattr(model, "config", None), "_attn_implementation")


def attention_of(model: nn.Module) -> str:
    """Tells the name of the function that the layers of the model call."""
    return str(model.config._attn_implementation)  # type: ignore[union-attr]


def _choose(model: nn.Module, name: str) -> None:
    # Every submodule reads the shared config object; some hold a copy of their own.
    for submodule in model.modules():
        config = getattr(submodule, "config", None)
        if config is not None and hasattr(config, "_attn_implementation"):
            config._attn_implementation = name
