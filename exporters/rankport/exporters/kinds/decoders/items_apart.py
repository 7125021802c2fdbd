"""Items of a pass apart from each other, and from the padding behind them: what recurrent layers mix them by."""

from abc import abstractmethod

import torch
from torch import Tensor

from rankport.exporters.kinds.decoders.shared_prefix import SharedPrefix

Mixed = tuple[Tensor, Tensor]
"""Tokens as a recurrent layer mixed them [1, tokens, ...], and the state after each prefix [prefixes, ...]."""


class ItemsApart(SharedPrefix):
    """Tokens whose items can be told apart.

    Each prefix has as many places: those of its items one after another, each as long as the longest.
    """

    convolves_by_operator = False
    """Says whether the convolution is one operator: of ONNX Runtime's, CUDA's saves a dozen passes over memory, while
    the CPU's takes two to four times as long as its terms."""

    @property
    @abstractmethod
    def operator_rows(self) -> int:
        """Rows of each prefix, of whole items each, that an operator computes beside each other."""

    @abstractmethod
    def by_prefix(self, states: Tensor) -> Tensor:
        """Puts [1, tokens, width] by place: [prefixes, places, width]."""

    @abstractmethod
    def by_token(self, places: Tensor) -> Tensor:
        """Puts [prefixes, places, width] back: [1, tokens, width]."""

    @abstractmethod
    def by_item(self, states: Tensor) -> Tensor:
        """Puts [1, tokens, width] by item: [prefixes * items, item_tokens, width]."""

    @abstractmethod
    def from_items(self, items: Tensor, like: Tensor) -> Tensor:
        """Puts [prefixes * items, item_tokens, width] back: [1, tokens, width], as `like`."""

    @abstractmethod
    def for_items(self, carried: Tensor) -> Tensor:
        """Hands what prefixes carry [prefixes, ...] to each of their items: [prefixes * items, ...]."""

    @abstractmethod
    def place_exists(self) -> Tensor:
        """Tells which places hold a token. [prefixes, places]"""

    @abstractmethod
    def place_begins(self) -> Tensor:
        """Tells which places are the first of an item. [prefixes, places], or so for each prefix"""

    @abstractmethod
    def sums_in_items(self, places: Tensor) -> Tensor:
        """Sums [prefixes, places, width] up, from the first place of each item on."""

    def for_rows(self, carried: Tensor) -> Tensor | None:
        """Hands what prefixes carry [prefixes, ...] to each row, whose first item an operator has go on from it.

        Gives [prefixes * rows, ...]; None: no item goes on so.
        """
        return None

    def rest_of_rows(self, places: Tensor) -> Tensor:
        """Leaves out the items that go on by an operator, of [prefixes, places, ...]."""
        return places

    def with_rest(self, places: Tensor, rest: Tensor) -> Tensor:
        """Puts others in the place of what `rest_of_rows` gives of [prefixes, places, ...]."""
        return rest

    def gates_by_prefix(self, gates: Tensor) -> Tensor:
        """Puts [1, tokens, width] as `by_prefix`, zeros where there is no token."""
        return torch.where(self.place_exists()[..., None], self.by_prefix(gates), 0.0)

    def convolved(
        self,
        general: Mixed,
        states: Tensor,
        kernel: tuple[Tensor, Tensor | None],
        activation: str | None,
        past: Tensor,
    ) -> Mixed:
        """Gives `general`, what a convolution made of states [1, tokens, channels], and may say how a step is to do it.

        The kernel is a weight [channels, taps] and a bias; past [prefixes, channels, taps - 1].
        """
        return general

    def attended_linearly(
        self,
        general: Mixed,
        states: tuple[Tensor, Tensor, Tensor],
        gates: tuple[Tensor, Tensor | None],
        past: Tensor,
        *,
        scale: float,
    ) -> Mixed:
        """Gives `general`, what `attend_linearly` made of the rest, and may say how a step is to do it."""
        return general


def handed_on(carried: Tensor, items: int) -> Tensor:
    """Hands what prefixes carry [prefixes, ...] to so many items of each: [prefixes * items, ...]."""
    prefixes, shape = carried.shape[0], carried.shape[1:]
    return carried[:, None].expand(prefixes, items, *shape).reshape(prefixes * items, *shape)
