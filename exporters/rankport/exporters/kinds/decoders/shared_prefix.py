"""Attention over a shared prefix, plugged into transformers' attention interface.

Owns the one attention function that every exported decoder runs, and what it is handed. The model around it stays the
checkpoint's own code: it sees one packed sequence [1, tokens]. How tokens are laid out, so that each item attends to
its prefix and causally to itself under one softmax, the two subclasses know: `packed_attention` and `row_attention`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.attention_interface import attending
from rankport.exporters.kinds.head_order import AttentionHeads
from rankport.protos.errors import CheckpointError

KEYWORD = "shared_prefix"
"""The keyword argument by which a `SharedPrefix` passes through the model down to its attention."""
_NAME = "rankport_shared_prefix"

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
        self.past = None if past is None else dict(enumerate(zip(past[::2], past[1::2], strict=False)))
        self.past_states = past[-1] if past and len(past) % 2 else None
        self.states: Tensor | None = (
            None  # [prefixes, 1, slots, width] that follow them, where they are averaged
        )
        self.new: dict[int, KV] = {}  # by layer
        # What recurrent layers carry on, of a prefix as a whole: part and layer -> [prefixes, ...].
        self.past_carried: dict[str, Tensor] = {}
        self.carried: dict[str, Tensor] = {}
        self.plain: dict[
            int, AttentionHeads
        ] = {}  # by layer, where no score is capped and there are no sinks

    def resume(self, attention: Sequence[int], carried: Mapping[str, Tensor]) -> None:
        """Goes on in a model whose layers are not all of attention: `attention` numbers those that the past is of."""
        if self.past is not None:
            self.past = dict(zip(attention, self.past.values(), strict=True))
        self.past_carried = dict(carried)

    @abstractmethod
    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scoring: Scoring
    ) -> tuple[Tensor, KV]:
        """Attends in one layer: query [1, heads, tokens, head_dim], key and value [1, kv_heads, tokens, head_dim].

        Returns [1, tokens, heads, head_dim], and the new keys and values.
        """

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


@contextmanager
def attending_to_prefix(model: nn.Module) -> Iterator[None]:
    """Has the model, while open, attend as the `SharedPrefix` says that it is called with under `KEYWORD`."""
    with attending(model, _NAME, _attention):
        yield


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
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attends in one layer. Raises CheckpointError if the layer asks for what shared-prefix scoring lacks."""
    shared = kwargs.get(KEYWORD)
    if not isinstance(shared, SharedPrefix):
        raise CheckpointError(
            f"{type(module).__name__} does not pass keyword arguments down to the attention interface: "
            "the shared prefix cannot reach it"
        )
    if attention_mask is not None or not getattr(module, "is_causal", True):
        raise CheckpointError(
            f"{type(module).__name__} is not plainly causal: an item would see more than its prefix"
        )
    layer = _layer_index(module, shared)
    if softcap is None and s_aux is None:
        shared.plain[layer] = AttentionHeads(module, query.shape[1], key.shape[1], query.shape[-1])
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scoring = Scoring(scale, softcap, shared.windows.get(layer), s_aux)
    mixed, shared.new[layer] = shared.attend(layer, query, key, value, scoring)
    return mixed, None


def _layer_index(module: nn.Module, shared: SharedPrefix) -> int:
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int) or layer in shared.new:
        raise CheckpointError(
            f"{type(module).__name__} calls attention as layer {layer!r}, after layers {sorted(shared.new)}: "
            "expected one call for each layer"
        )
    return layer


def capper(softcap: float | None) -> Cap:
    """Makes the logit soft-capping of Gemma 2 (arXiv 2408.00118, section 2): cap * tanh(scores / cap)."""
    if softcap is None:
        return lambda scores: scores
    return lambda scores: torch.tanh(scores / softcap) * softcap
