"""Text towers: padded token ids -> one row a text. A text's row is the same whatever it is padded to."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.two_tower.config import (
    BertTower,
    CnnTower,
    LstmTower,
    Projection,
    Tower,
    TowerActivation,
)
from rankport.protos.errors import CheckpointError

ACTIVATIONS: Mapping[TowerActivation, Callable[[], nn.Module]] = MappingProxyType(
    {
        "identity": nn.Identity,
        "tanh": nn.Tanh,
        "relu": nn.ReLU,
        "gelu": nn.GELU,
        "sigmoid": nn.Sigmoid,
    }
)


def make_tower(tower: Tower, vocab_size: int, body: nn.Module | None = None) -> nn.Module:
    """Makes a tower: (input_ids, attention_mask), both [texts, tokens] int64, padded at the end -> [texts, width].

    Raises CheckpointError where a BERT tower has no body, another tower one, or the body another vocabulary.
    """
    if isinstance(tower, BertTower):
        return _Bert(tower, vocab_size, body)
    if body is not None:
        raise CheckpointError(f"a tower of type {tower.type!r} has no body of transformers: leave it out")
    return _Cnn(tower, vocab_size) if isinstance(tower, CnnTower) else _Lstm(tower, vocab_size)


class _Cnn(nn.Module):
    """Max over windows of activation(convolution of the embeddings), for each filter; sizes of windows joined.

    With the padding `same` zeros stand around the text, and each token has a window; with `valid`, DeText's, windows
    lie inside of the text, and one shorter than a window has zeros.
    """

    def __init__(self, tower: CnnTower, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, tower.embedding_size)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(tower.embedding_size, tower.filters, window) for window in tower.windows
        )
        self.activation = ACTIVATIONS[tower.activation]()
        self.inside = tower.padding == "valid"
        self.projection = _projection(tower.own_width, tower.projection)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        words = self.embedding(input_ids)
        states = (words * attention_mask[:, :, None].to(words.dtype)).transpose(1, 2)  # [texts, size, tokens]
        largest = [self._largest(convolution, states, attention_mask) for convolution in self.convolutions]
        rows: Tensor = self.projection(torch.cat(largest, dim=1))
        return rows

    def _largest(self, convolution: nn.Module, states: Tensor, mask: Tensor) -> Tensor:
        assert isinstance(convolution, nn.Conv1d)
        window = convolution.kernel_size[0]
        before = 0 if self.inside else (window - 1) // 2
        around = nn.functional.pad(states, (before, window - 1 - before))
        found: Tensor = self.activation(convolution(around))  # [texts, filters, tokens]
        lengths = mask.sum(dim=1, keepdim=True)
        reached = torch.arange(mask.shape[1])[None] + (window if self.inside else 1)
        seen = (reached <= lengths)[:, None]  # [texts, 1, tokens]
        largest = found.masked_fill(~seen, float("-inf")).amax(dim=2)
        return torch.where(lengths < window, 0.0, largest) if self.inside else largest


class _Lstm(nn.Module):
    """State behind the last token of each text; with `bidirectional` also that of the text read backwards."""

    def __init__(self, tower: LstmTower, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, tower.embedding_size)
        sizes = [tower.embedding_size] + [tower.own_width] * (tower.layers - 1)
        self.forwards = _layers(sizes, tower.hidden_size)
        self.backwards = _layers(sizes if tower.bidirectional else [], tower.hidden_size)
        self.projection = _projection(tower.own_width, tower.projection)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        last = attention_mask.sum(dim=1, keepdim=True) - 1  # [texts, 1]
        back = (last - torch.arange(attention_mask.shape[1])).clamp(min=0)  # padding stays behind the text
        states = self.embedding(input_ids)
        for place, layer in enumerate(self.forwards):
            directions = [layer(states)[0]]
            if len(self.backwards):
                directions.append(_taken(self.backwards[place](_taken(states, back))[0], back))
            states = torch.cat(directions, dim=-1)
        rows: Tensor = self.projection(self._ends(states, last))
        return rows

    def _ends(self, states: Tensor, last: Tensor) -> Tensor:
        """Takes each direction where it has read the whole text. [texts, width]"""
        if not len(self.backwards):
            return _taken(states, last)[:, 0]
        half = states.shape[-1] // 2
        return torch.cat([_taken(states[..., :half], last)[:, 0], states[:, 0, half:]], dim=-1)


def _layers(sizes: list[int], hidden_size: int) -> nn.ModuleList:
    return nn.ModuleList(nn.LSTM(size, hidden_size, batch_first=True) for size in sizes)


def _taken(states: Tensor, index: Tensor) -> Tensor:
    """Takes tokens `index` [texts, n] of each text."""
    return torch.gather(states, 1, index[:, :, None].expand(-1, -1, states.shape[-1]))


class _Bert(nn.Module):
    """Last hidden states of a body of transformers, pooled."""

    def __init__(self, tower: BertTower, vocab_size: int, body: nn.Module | None) -> None:
        super().__init__()
        if body is None:
            raise CheckpointError(
                "a tower of type 'bert' needs its body: a model of transformers, without head"
            )
        config: Any = body.config
        if config.vocab_size != vocab_size or config.hidden_size != tower.own_width:
            raise CheckpointError(
                f"the tower's body has vocab_size {config.vocab_size} and hidden_size {config.hidden_size}, the config "
                f"says vocab_size {vocab_size} and body.hidden_size {tower.own_width}"
            )
        self.body = without_pooler(body)
        self.pooling = tower.pooling
        self.projection = _projection(tower.own_width, tower.projection)

    @property
    def embedding(self) -> nn.Module:
        """Table of the word embeddings."""
        table: nn.Module = self.body.get_input_embeddings()  # type: ignore[operator]
        return table

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        rows: Tensor = self.projection(self._pooled(states, attention_mask))
        return rows

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "max":
            return states.masked_fill(mask[:, :, None] == 0, float("-inf")).amax(dim=1)
        weights = mask.to(states.dtype)[:, None, :]
        return ((weights @ states) / weights.sum(dim=-1, keepdim=True))[:, 0]


def without_pooler(body: nn.Module) -> nn.Module:
    """Takes off the pooler that some bodies bring and no tower reads."""
    if getattr(body, "pooler", None) is not None:
        body.pooler = None  # type: ignore[assignment]
    return body


def _projection(width: int, projection: Projection | None) -> nn.Module:
    if projection is None:
        return nn.Identity()
    return nn.Sequential(nn.Linear(width, projection.size), ACTIVATIONS[projection.activation]())
