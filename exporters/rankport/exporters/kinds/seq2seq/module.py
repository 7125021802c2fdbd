"""The two functions that an encoder-decoder is cut into: texts to keys and values, and one token more of each answer.

Owns what the decoder's attention attends to. The layers around it stay the checkpoint's own code.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rankport.exporters.graphs.attention_interface import attending
from rankport.exporters.kinds.seq2seq.families import Seq2SeqFamily
from rankport.runtime.backends.layouts.rectangle import UNSEEN

_NAME = "rankport_seq2seq"
KV = tuple[Tensor, Tensor]


class SourceModule(nn.Module):
    """(input_ids, attention_mask: [texts, source_tokens] int64, padded at the end) -> keys and values of each layer.

    Those that the decoder's layers attend to, key 0, value 0, key 1, ...: each [texts, heads, source_tokens, head_dim].
    """

    def __init__(self, family: Seq2SeqFamily) -> None:
        super().__init__()
        self.model, self.family = family.model, family

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """Reads padded texts."""
        states = self.family.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        texts, tokens, _ = states.shape
        shape = (texts, tokens, self.family.heads, self.family.head_dim)
        return [
            project(states).reshape(shape).transpose(1, 2)
            for projections in self.family.cross_projections()
            for project in projections
        ]


class StepModule(nn.Module):
    """One token more of several answers to each text, `beams`: logits, and the token's own keys and values.

    Takes input_ids [texts, beams], past_lengths [texts], source_lengths [texts] int64;
    past: 2 * layers tensors [texts, beams, heads, past_tokens, head_dim], padded at the end, and
    source: 2 * layers tensors as `SourceModule` makes them. Returns
    [logits [texts, beams, vocabulary], key 0 [texts, beams, heads, head_dim], value 0, key 1, ...].
    """

    biases: Tensor | None

    def __init__(self, family: Seq2SeqFamily) -> None:
        super().__init__()
        self.model, self.family = family.model, family
        self.register_buffer("biases", family.biases())

    def forward(
        self,
        input_ids: Tensor,
        past_lengths: Tensor,
        source_lengths: Tensor,
        past: list[Tensor],
        source: list[Tensor],
    ) -> list[Tensor]:
        """Decodes one token of each answer."""
        step = _Step(self.biases, past_lengths, source_lengths, _pairs(past), _pairs(source))
        states = self.family.embed(input_ids, past_lengths)
        with _attending(self.model, step):
            states = self.family.run(states)
        return [self.family.logits(states).to(torch.float32), *(part for pair in step.new for part in pair)]


class _Step:
    """Attention of one step: each answer to its own tokens so far, and all of a text to that text."""

    def __init__(
        self,
        biases: Tensor | None,
        lengths: Tensor,
        source_lengths: Tensor,
        past: list[KV],
        source: list[KV],
    ) -> None:
        self._past, self._source = past, source
        self.new: list[KV] = []  # by layer, each [texts, beams, heads, head_dim]
        # The last is the token's own, in whatever room the past has.
        places = torch.arange(past[0][0].shape[3] + 1)
        source_places = torch.arange(source[0][0].shape[2])
        seen = (places < lengths[:, None]) | (places == places[-1])
        self._bias = torch.where(seen, 0.0, UNSEEN)[:, None, None, None]
        if biases is not None:
            distances = (lengths[:, None] - places).clamp(0, biases.shape[0] - 1)
            self._bias = self._bias + biases[distances].transpose(1, 2)[:, None, :, None]
        self._source_bias = torch.where(source_places < source_lengths[:, None], 0.0, UNSEEN)[:, None, None]

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, None]:
        """Attends in one layer: query, key and value [texts, heads, beams, head_dim]."""
        assert scaling is not None
        if module.is_causal:
            return self._to_itself(query * scaling, key, value), None
        keys, values = self._source[module.layer_idx]  # type: ignore[index]
        scores = (query * scaling) @ keys.transpose(2, 3) + self._source_bias
        return (scores.softmax(dim=-1) @ values).transpose(1, 2), None

    def _to_itself(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        own_key, own_value = key.transpose(1, 2), value.transpose(1, 2)  # [texts, beams, heads, head_dim]
        keys, values = self._past[len(self.new)]
        self.new.append((own_key, own_value))
        query = query.transpose(1, 2)[:, :, :, None]  # [texts, beams, heads, 1, head_dim]
        own = (query * own_key[:, :, :, None]).sum(dim=-1, keepdim=True)
        weights = (torch.cat([query @ keys.transpose(3, 4), own], dim=-1) + self._bias).softmax(dim=-1)
        mixed = weights[..., :-1] @ values + weights[..., -1:] * own_value[:, :, :, None]
        return mixed[:, :, :, 0]


@contextmanager
def _attending(model: nn.Module, step: _Step) -> Iterator[None]:
    with attending(model, _NAME, step.attend):
        yield


def _pairs(states: list[Tensor]) -> list[KV]:
    return list(zip(states[::2], states[1::2], strict=True))
