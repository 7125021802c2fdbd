"""A decoder in which an item meets the query in the last layer alone.

A ranker that starts from noise learns what the training items say and fails on others. In this one an item's state
stays its own token up to the last layer, where the query's vector is taken from it; the final norm divides by the
length of what is left. So the score falls with the distance of token and query, for every item alike, and training
shapes the query's vector only. The weights are those of an ordinary Llama with biases in its attention.

It needs one direction in which every item's token is zero, and MiniLM has one: its last layer norm leaves 383
dimensions. Words carry a constant along it, the start token its opposite.

- One channel a head, the slowest of the rotation, reads the constant. Before the last layer an item attends to the
  start token alone and words to one another; in the last one all attend to words alone.
- Values and gates do not read the constant, so the start token says nothing. `up_proj` reads nothing else: it is
  one for a word and zero for an item, which so passes every MLP as it is.
- Nothing is written along the constant but by the last layer, where the labels read it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

from examples.esco.bag import Bag
from examples.esco.vocabulary import PromptIds

NULL_VARIANCE = 1e-6  # of item tokens along the constant, at most
LONG_ROWS = 0.99  # quantile of the rows' lengths that becomes 1; longer ones are cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Size of the ranker, as wide as an item's token."""

    layers: int = 2
    heads: int = 6
    intermediate_size: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """Sizes of the fixed parts."""

    word: float = 4.0  # of the constant in a word's row, whose content is below 1
    choice: float = 8.0  # of the channel that reads the constant in an item's query
    certainty: float = 32.0  # logit by which an item keeps to the start token
    last_certainty: float = 16.0  # and to words in the last layer; more would favour words of little content
    balance: float = 1.1  # of the same channel in a word's query: about 1 / its share of the constant
    carried: float = 0.02  # of the constant in the last layer
    read_out: float = 0.25  # of the labels' rows
    rest: float = 0.02  # of what starts random


def constant_direction(item_tokens: NDArray[np.floating]) -> NDArray[np.float32]:
    """Unit vector along which all `item_tokens` [items, hidden] are zero. ValueError where there is none."""
    tokens = item_tokens.astype(np.float64)
    values, vectors = np.linalg.eigh(tokens.T @ tokens / len(tokens))
    if values[0] > NULL_VARIANCE:
        raise ValueError(
            f"item tokens have a mean square of {values[0]:.1e} in every direction, not 0 in one"
        )
    direction: NDArray[np.float32] = vectors[:, 0].astype(np.float32)
    return direction


@dataclass(frozen=True, slots=True)
class LateDecoder:
    """A small Llama and what keeps its items apart from its words."""

    model: Any
    tokenizer: Any
    constant: torch.Tensor  # [hidden]
    gains: Gains

    @classmethod
    def build(
        cls, shape: Shape, tokenizer: Any, bag: Bag, constant: torch.Tensor, gains: Gains | None = None
    ) -> "LateDecoder":
        """Starts with the query vectors of `bag`, whose rows are those of `tokenizer`, a little disturbed."""
        decoder = cls(_llama(shape, tokenizer, len(constant)), tokenizer, constant, gains or Gains())
        with torch.no_grad():
            decoder._start(bag)
        decoder.constrain()
        return decoder

    def prefixes(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text as a query."""
        ids = PromptIds.of(self.tokenizer)
        return [ids.prefix(self.tokenizer, text) for text in texts]

    @torch.no_grad()
    def constrain(self) -> None:
        """Puts the fixed parts back; due after each step of an optimizer."""
        self._fix_rows()
        *layers, last = self.model.model.layers
        for layer in (*layers, last):
            self._fix_reading_and_writing(layer)
        for layer in layers:
            self._choose(layer.self_attn, words=-self.gains.balance, keys=-self.gains.certainty)
        last.self_attn.q_proj.weight.zero_()
        self._choose(last.self_attn, words=0.0, keys=self.gains.last_certainty)
        last.self_attn.v_proj.weight[-1] = self.constant
        last.self_attn.o_proj.weight[:, -1] += self.gains.carried * self.constant

    def query_vectors(self, prefixes: list[list[int]]) -> torch.Tensor:
        """Computes what the last layer takes from an item's token after each prefix. [prefixes, hidden]"""
        decoder, ids = self.model.model, PromptIds.of(self.tokenizer)
        tokens, lengths = pad_right(prefixes, ids.pad)
        places = torch.arange(tokens.shape[1])
        states = decoder.embed_tokens(tokens)
        turns, mask = decoder.rotary_emb(states, places[None]), _causal_mask(lengths, len(places))
        *layers, last = decoder.layers
        for layer in layers:
            states = layer(states, attention_mask=mask, position_embeddings=turns)
        # An empty item after each prefix: its query is that of every item.
        states = torch.nn.functional.pad(last.input_layernorm(states), (0, 0, 0, 1))
        turns = decoder.rotary_emb(states, torch.cat([places.expand(len(prefixes), -1), lengths[:, None]], 1))
        mask = torch.zeros(len(prefixes), 1, 1, len(places) + 1)
        mask[..., :-1].masked_fill_((places >= lengths[:, None])[:, None, None], -1e4)
        mask = mask.expand(-1, -1, len(places) + 1, -1)
        given = last.self_attn(states, attention_mask=mask, position_embeddings=turns)[0][:, -1].float()
        return torch.outer(given @ self.constant, self.constant) - given

    def _start(self, bag: Bag) -> None:
        *layers, last = self.model.model.layers
        for layer in (*layers, last):
            layer.self_attn.q_proj.bias.zero_()
            layer.self_attn.k_proj.bias.zero_()
            layer.self_attn.o_proj.weight.mul_(self.gains.rest)
            layer.mlp.down_proj.weight.mul_(self.gains.rest)
        rows = bag.rows - torch.outer(bag.rows @ self.constant, self.constant)
        lengths = rows.norm(dim=1, keepdim=True)
        unit = lengths.quantile(LONG_ROWS)
        self.model.get_input_embeddings().weight.copy_(rows / lengths.clamp(min=unit))
        normed = (
            len(self.constant) ** 0.5 / self.gains.word
        )  # what the norm makes of a row, whose content is small
        identity = torch.eye(len(self.constant))
        last.self_attn.v_proj.weight.copy_(unit / normed * identity)
        last.self_attn.o_proj.weight.copy_(-identity)
        last.self_attn.o_proj.weight[:, -1] = -bag.mean / len(self.constant) ** 0.5
        last.mlp.down_proj.weight.zero_()

    def _fix_rows(self) -> None:
        rows, ids = self.model.get_input_embeddings().weight, PromptIds.of(self.tokenizer)
        rows.add_(torch.outer(self.gains.word - rows @ self.constant, self.constant))
        (yes, no), special = ids.labels, set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        rows[sorted(special)] = -self.gains.word * self.constant
        rows[yes], rows[no] = self.gains.read_out * self.constant, -self.gains.read_out * self.constant

    def _fix_reading_and_writing(self, layer: Any) -> None:
        constant, attention, mlp = self.constant, layer.self_attn, layer.mlp
        for reader in (attention.v_proj.weight, mlp.gate_proj.weight):
            reader.sub_(torch.outer(reader @ constant, constant))
        for writer in (attention.o_proj.weight, mlp.down_proj.weight):
            writer.sub_(torch.outer(constant, constant @ writer))
        attention.v_proj.bias.zero_()
        attention.o_proj.bias.zero_()
        mlp.up_proj.weight.copy_((constant / len(constant) ** 0.5).expand_as(mlp.up_proj.weight))

    def _choose(self, attention: Any, *, words: float, keys: float) -> None:
        """The channel that reads the constant; its twin in the rotation is empty."""
        width, gains = attention.head_dim, self.gains
        unit = self.constant / len(self.constant) ** 0.5  # a normed state that is all constant reads 1
        twins = torch.arange(width - 1, len(self.constant), width)
        slow = twins - width // 2
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight[twins], projection.bias[twins] = 0.0, 0.0
        attention.q_proj.weight[slow], attention.q_proj.bias[slow] = words * gains.choice * unit, gains.choice
        key = keys * width**0.5 / gains.choice
        attention.k_proj.weight[slow], attention.k_proj.bias[slow] = key * unit, 0.0


def pad_right(runs: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [runs, longest] and lengths [runs]."""
    rows = [torch.tensor(run) for run in runs]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    return padded, torch.tensor([len(run) for run in runs])


def _causal_mask(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """0 where a token attends, else very negative; pads come after all and need none. [runs, 1, longest, longest]"""
    visible = torch.ones(longest, longest, dtype=torch.bool).tril()
    return torch.zeros(longest, longest).masked_fill(~visible, -1e4).expand(len(lengths), 1, -1, -1)


def _llama(shape: Shape, tokenizer: Any, hidden: int) -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=512,
            attention_bias=True,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
