"""Fine-tuning of BERT's upper layers on states that the lower ones, frozen, made once.

Owns the lower states of many texts and the run of some layers over a batch of them. Texts follow one another as runs of
tokens; none is padded but in attention, and nothing is dropped. Products are of bfloat16 where the processor has them,
weights and sums of float32.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BATCH_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Runs:
    """States of texts, one text behind another."""

    states: Tensor  # [tokens, width]
    lengths: Tensor  # [texts] int64, tokens of each

    def of(self, texts: Sequence[int]) -> "Runs":
        """Takes some texts, in the order given."""
        rows = self.rows_of(texts)
        return Runs(self.states[rows], self.lengths[list(texts)])

    def rows_of(self, texts: Sequence[int]) -> Tensor:
        """Gives the places of some texts' tokens. [tokens of those]"""
        ends = self.lengths.cumsum(0)
        spans = [(int(ends[text] - self.lengths[text]), int(ends[text])) for text in texts]
        return torch.cat([torch.arange(start, end) for start, end in spans])

    @property
    def firsts(self) -> Tensor:
        """Places of the texts' first tokens. [texts]"""
        return self.lengths.cumsum(0) - self.lengths

    def means(self) -> Tensor:
        """Averages each text's states. [texts, width]"""
        owners = torch.repeat_interleave(torch.arange(len(self.lengths)), self.lengths)
        sums = self.states.new_zeros(len(self.lengths), self.states.shape[1]).index_add(
            0, owners, self.states
        )
        return sums / self.lengths[:, None]


def lower_states(
    body: Any, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]], layers: int
) -> Runs:
    """Computes what `layers` lowest layers of a BertModel make of texts, those of similar length together.

    `ids` and token `types` are those of each text's tokens. No gradient goes through them: they count as frozen.
    """
    lengths = torch.tensor([len(run) for run in ids])
    states = torch.empty(int(lengths.sum()), body.config.hidden_size)
    texts = Runs(states, lengths)
    for part in by_length(lengths.tolist()):
        with torch.inference_mode():
            embedded = _embedded(body, [ids[text] for text in part], [types[text] for text in part])
            states[texts.rows_of(part)] = run_layers(body.encoder.layer[:layers], embedded).states
    return texts


def run_layers(layers: Iterable[Any], texts: Runs, first_alone: bool = False) -> Runs:
    """Runs BertLayers over a batch of texts; with `first_alone` the last of them gives first tokens' states only."""
    chosen = list(layers)
    seen = torch.arange(int(texts.lengths.max())) < texts.lengths[:, None]
    grid = torch.where(seen, texts.firsts[:, None] + torch.arange(seen.shape[1]), 0)
    states = texts.states
    with torch.autocast("cpu", torch.bfloat16, enabled=_multiplies_bfloat16()):
        for layer in chosen[:-1] if first_alone else chosen:
            states = _layer(layer, states, states, grid, seen, grid)
        if first_alone:
            firsts = texts.firsts
            states = _layer(
                chosen[-1], states, states[firsts], grid, seen, torch.arange(len(firsts))[:, None]
            )
            return Runs(states.float(), torch.ones_like(texts.lengths))
    return Runs(states.float(), texts.lengths)


def freeze(body: Any, layers: int) -> list[torch.nn.Parameter]:
    """Freezes embeddings, pooler and lowest layers of a BertModel; gives the weights of the upper ones."""
    for part in (body.embeddings, *body.encoder.layer[:layers], *([body.pooler] if body.pooler else [])):
        part.requires_grad_(False)
    return [weight for layer in body.encoder.layer[layers:] for weight in layer.parameters()]


def _multiplies_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _embedded(body: Any, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]]) -> Runs:
    """Embeds texts as one row, each counting positions from its own start."""
    lengths = torch.tensor([len(run) for run in ids])
    positions = torch.cat([torch.arange(len(run)) for run in ids])
    flat = [torch.tensor([value for run in part for value in run])[None] for part in (ids, types)]
    states = body.embeddings(input_ids=flat[0], token_type_ids=flat[1], position_ids=positions[None])
    return Runs(states[0], lengths)


def _layer(layer: Any, states: Tensor, asking: Tensor, grid: Tensor, seen: Tensor, asks: Tensor) -> Tensor:
    """Runs a BertLayer for the tokens that ask, over all states. [asking tokens, width]

    grid, seen  [texts, longest] place of each token, and whether it is there
    asks        [texts, n] place of each asking token among those
    """
    attention = layer.attention.self
    query, key, value = (
        _taken(attention.query(asking), asks),
        _taken(attention.key(states), grid),
        _taken(attention.value(states), grid),
    )
    heads = attention.num_attention_heads
    query, key, value = (
        part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in (query, key, value)
    )
    rows = _attended(query, key, value, seen[:, None, None]).transpose(1, 2).flatten(2).flatten(0, 1)
    asked = seen[:, : asks.shape[1]].flatten().nonzero()[:, 0]
    attended = layer.attention.output(_taken(rows, asked), asking)
    return layer.output(layer.intermediate(attended), attended)  # type: ignore[no-any-return]


def _taken(states: Tensor, places: Tensor) -> Tensor:
    """Gives `states[places]`, whose backward pass is several times as slow."""
    return states.index_select(0, places.flatten()).view(*places.shape, *states.shape[1:])


def _attended(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """Attends, written out: the backward pass of torch's own attention is slow on a CPU for short texts."""
    logits = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    attended: Tensor = logits.masked_fill(~seen, -torch.inf).softmax(-1) @ value
    return attended


def by_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yields the places of each batch of texts: of similar length, and of few tokens when padded."""
    part: list[int] = []
    for text in sorted(range(len(lengths)), key=lengths.__getitem__):
        if part and (len(part) + 1) * lengths[text] > _BATCH_TOKENS:
            yield part
            part = []
        part.append(text)
    if part:
        yield part
