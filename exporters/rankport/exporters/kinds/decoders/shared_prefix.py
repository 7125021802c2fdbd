"""Attention over a shared prefix, plugged into transformers' attention interface.

Owns the one attention function that every exported decoder runs, and what it is handed. The model around it stays the
checkpoint's own code: it sees one packed sequence [1, tokens]. How tokens are laid out, so that each item attends to
its prefix and causally to itself under one softmax, the two subclasses know: `packed_attention` and `row_attention`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.attention_interface import attending
from rankport.exporters.kinds.head_order import AttentionHeads
from rankport.protos.errors import CheckpointError

_NAME = "rankport_shared_prefix"

_PASSED_OVER = ("position_ids", "block_indices")
"""Tensors that layers hand to kernels that need them; chosen blocks of keys leave none out within `Windows.bound`."""

KV = tuple[Tensor, Tensor]  # key and value, each [prefixes, kv_heads, slots, width]
Cap = Callable[[Tensor], Tensor]
NO_WINDOWS: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Scoring:
    """Change that a layer makes to the products of queries and keys before its softmax."""

    scale: float
    softcap: float | None = None
    window: int | None = None  # how many of the last tokens one sees, itself included, where that is not all
    sinks: Tensor | None = None  # [heads] scores of one key more, whose value is nothing


class SharedPrefix(ABC):
    """The past of a pass over packed tokens; collects each layer's new KV while the model runs."""

    def __init__(
        self,
        past: Sequence[Tensor] | None,
        by_group: frozenset[int] = frozenset(),
        windows: Mapping[int, int] = NO_WINDOWS,
    ) -> None:
        """Starts with a `past`: key and value of each layer, each [prefixes, kv_heads, past, head_dim]; None: empty.

        The last states of the prefixes, [prefixes, 1, past, width], follow where they are averaged. `by_group`: layers
        whose query heads come, and are given back, in the order of `head_order`. `windows`: of layers that do not see
        all of the past.
        """
        self.by_group = by_group
        self.windows = windows
        self.past = None if past is None else list(zip(past[::2], past[1::2], strict=False))
        self.past_states = past[-1] if past and len(past) % 2 else None
        self.states: Tensor | None = (
            None  # [prefixes, 1, slots, width] that follow them, where they are averaged
        )
        self.new: dict[int, KV] = {}  # by layer that has some of its own, in the order of `past`
        self.places: dict[int, int] = {}  # layer -> whose of `new` and `past` it attends to
        self._given: list[
            tuple[int, Tensor, Tensor]
        ] = []  # layer, key and value that its attention was called with
        # What recurrent layers carry on, of a prefix as a whole: part and layer -> [prefixes, ...].
        self.past_carried: dict[str, Tensor] = {}
        self.carried: dict[str, Tensor] = {}
        self.plain: dict[
            int, AttentionHeads
        ] = {}  # by layer, where no score is capped and there are no sinks

    @abstractmethod
    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> tuple[Tensor, KV]:
        """Attends in one layer: query [1, heads, tokens, head_dim], key and value [1, kv_heads, tokens, head_dim].

        Returns [1, tokens, heads, head_dim], and the new keys and values.
        """

    def place(self, layer: int, key: Tensor, value: Tensor) -> bool:
        """Notes what `layer` attends to. Returns whether it is its own, and not what a layer before attended to."""
        source = next((given for given in self._given if given[1] is key and given[2] is value), None)
        self.places[layer] = len(self.new) if source is None else self.places[source[0]]
        self._given.append((layer, key, value))
        return source is None

    @abstractmethod
    def by_slot(self, states: Tensor) -> Tensor:
        """Puts [1, heads, tokens, width] by slot: [prefixes, heads, slots, width]."""

    @abstractmethod
    def slots_of(self, tokens: Tensor) -> Tensor:
        """Finds the flat slots of tokens. [tokens]"""

    @abstractmethod
    def existing(self) -> Tensor:
        """Tells which tokens of a prefix exist: 1, else 0. [prefixes, past]"""

    @abstractmethod
    def seeing(self) -> Tensor:
        """Tells which tokens of its row a token sees: 1, else 0. [row tokens, row tokens], or so for each row"""

    def past_states_of(self, own: Tensor) -> Tensor:
        """Gives the prefixes' last states, none where there is no past; `own` [prefixes, 1, slots, width] follow."""
        return own[:, :, :0] if self.past_states is None else self.past_states


_CURRENT: ContextVar[SharedPrefix] = ContextVar(_NAME)
"""Past of the pass under way. Many layers pass no keyword arguments down to their attention, so none brings it."""


@contextmanager
def attending_to_prefix(model: nn.Module) -> Iterator[None]:
    """Has the model, while open, attend as the `SharedPrefix` says that a pass is run with."""
    with attending(model, _NAME, _attention):
        yield


@contextmanager
def passing(shared: SharedPrefix) -> Iterator[None]:
    """Has what attends, while open, continue `shared`."""
    token = _CURRENT.set(shared)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_prefix() -> SharedPrefix | None:
    """Gives the past of the pass under way; None where there is none, as in a plain run."""
    return _CURRENT.get(None)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **more: object,
) -> tuple[Tensor, None]:
    """Attends in one layer. Raises CheckpointError if the layer asks for what shared-prefix scoring lacks."""
    shared = _CURRENT.get()
    lacking = [name for name, value in more.items() if isinstance(value, Tensor) and name not in _PASSED_OVER]
    if lacking:
        raise CheckpointError(
            f"{type(module).__name__} attends by {', '.join(lacking)} too, which shared-prefix scoring lacks"
        )
    if not getattr(module, "is_causal", True):
        raise CheckpointError(
            f"{type(module).__name__} reads a text in both directions, or another one: what a token sees is not its "
            "prefix alone"
        )
    if attention_mask is not None:
        raise CheckpointError(
            f"{type(module).__name__} makes a mask of its own, beside causality: tokens that share a pass need another"
        )
    if key.shape[2] != query.shape[2]:
        raise CheckpointError(
            f"{type(module).__name__} attends to {key.shape[2]} keys of {query.shape[2]} tokens: keys that are made of "
            "several tokens together, as DeepSeek-V4's, have no place in a prefix that items of any length share"
        )
    layer = _layer_index(module, shared)
    if softcap is None and s_aux is None:
        shared.plain[layer] = AttentionHeads(module, query.shape[1], key.shape[1], query.shape[-1])
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scoring = Scoring(scale, softcap, shared.windows.get(layer), s_aux)
    has_own = shared.place(layer, key, value)
    mixed, new = shared.attend(layer, *_alike(query, key, value), scoring)
    if has_own:
        shared.new[layer] = new
    return mixed[..., : value.shape[-1]], None


def _alike(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fills heads up with zeros to one width: values of latent attention (MLA) are narrower than their keys.

    Zeros add nothing to a product, and what is mixed of them is zero.
    """
    width = max(key.shape[-1], value.shape[-1])
    query, key, value = (
        states if states.shape[-1] == width else nn.functional.pad(states, (0, width - states.shape[-1]))
        for states in (query, key, value)
    )
    return query, key, value


def _layer_index(module: nn.Module, shared: SharedPrefix) -> int:
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int) or layer in shared.places:
        raise CheckpointError(
            f"{type(module).__name__} calls attention as layer {layer!r}, after layers {sorted(shared.places)}: "
            "expected one call for each layer"
        )
    return layer


def capper(softcap: float | None) -> Cap:
    """Makes the logit soft-capping of Gemma 2 (arXiv 2408.00118, section 2): cap * tanh(scores / cap)."""
    if softcap is None:
        return lambda scores: scores
    return lambda scores: torch.tanh(scores / softcap) * softcap
