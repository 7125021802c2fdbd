"""Decoders of the families that are exported, as far as they differ: tokens to states, layers, and what follows them.

Layers run by the checkpoint's own code; what their attention attends to, `module` says.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import BartForConditionalGeneration, MT5ForConditionalGeneration, T5ForConditionalGeneration

from rankport.protos.errors import CheckpointError

Projections = tuple[nn.Module, nn.Module]


class Seq2SeqFamily(ABC):
    """Parts of one model. States are [texts, beams, width]."""

    def __init__(self, model: nn.Module, heads: int, head_dim: int) -> None:
        self.model, self.heads, self.head_dim = model, heads, head_dim

    @property
    def encoder(self) -> nn.Module:
        """The encoder: padded ids and mask to states."""
        encoder: nn.Module = self.model.get_encoder()  # type: ignore[operator]
        return encoder

    @property
    def layers(self) -> int:
        """Counts the decoder's layers."""
        return sum(1 for _ in self.cross_projections())

    @property
    @abstractmethod
    def max_tokens(self) -> int | None:
        """Longest text of either side that there are position encodings for; None: any."""

    @abstractmethod
    def cross_projections(self) -> Iterator[Projections]:
        """Yields what makes keys and values of the encoder's states, a layer each."""

    @abstractmethod
    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Embeds tokens [texts, beams] at the position of each text [texts]."""

    @abstractmethod
    def run(self, states: Tensor) -> Tensor:
        """Runs the layers."""

    @abstractmethod
    def logits(self, states: Tensor) -> Tensor:
        """Computes the logits. [texts, beams, vocabulary]"""

    def biases(self) -> Tensor | None:
        """Gives what is added to the scores of tokens so far before the one that attends, and further. [far, heads]"""
        return None


class T5Family(Seq2SeqFamily):
    """T5, plain and gated (1.1), and mT5: relative positions, nothing at a token's own."""

    max_tokens = None

    def __init__(self, model: nn.Module) -> None:
        config = model.config
        super().__init__(model, config.num_heads, config.d_kv)  # type: ignore[union-attr, arg-type]
        self.decoder: nn.Module = model.decoder  # type: ignore[assignment]

    def cross_projections(self) -> Iterator[Projections]:
        for block in self.decoder.block:  # type: ignore[union-attr]
            attention = block.layer[1].EncDecAttention
            yield attention.k, attention.v

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        states: Tensor = self.decoder.embed_tokens(ids)  # type: ignore[operator]
        return states

    def run(self, states: Tensor) -> Tensor:
        # Biases and the encoder's states are in hand already: what stands in their place is never looked at.
        unread = states.new_zeros(1)
        for block in self.decoder.block:  # type: ignore[union-attr]
            states = block(
                states,
                position_bias=unread,
                encoder_hidden_states=states,
                encoder_decoder_position_bias=unread,
            )[0]
        normed: Tensor = self.decoder.final_layer_norm(states)  # type: ignore[operator]
        return normed

    def logits(self, states: Tensor) -> Tensor:
        config = self.model.config
        if getattr(config, "scale_decoder_outputs", False):  # mT5 has no such field
            states = states * (self.model.model_dim**-0.5)  # type: ignore[operator]
        logits: Tensor = self.model.lm_head(states)  # type: ignore[operator]
        return logits

    def biases(self) -> Tensor | None:
        attention = self.decoder.block[0].layer[0].SelfAttention  # type: ignore[union-attr, index]
        furthest: int = attention.relative_attention_max_distance
        buckets = attention._relative_position_bucket(
            -torch.arange(furthest + 1),
            bidirectional=False,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=furthest,
        )
        biases: Tensor = attention.relative_attention_bias(buckets)
        return biases.detach()


class BartFamily(Seq2SeqFamily):
    """BART: learned positions, norms behind each part of a layer."""

    def __init__(self, model: nn.Module) -> None:
        config = model.config
        heads: int = config.decoder_attention_heads  # type: ignore[union-attr, assignment]
        super().__init__(model, heads, config.d_model // heads)  # type: ignore[union-attr, operator, arg-type]
        self.decoder: nn.Module = model.get_decoder()  # type: ignore[operator]

    @property
    def max_tokens(self) -> int | None:
        """See `Seq2SeqFamily.max_tokens`."""
        return int(self.model.config.max_position_embeddings)  # type: ignore[union-attr, arg-type]

    def cross_projections(self) -> Iterator[Projections]:
        for layer in self.decoder.layers:  # type: ignore[union-attr]
            attention = layer.encoder_attn
            yield attention.k_proj, attention.v_proj

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        table: nn.Embedding = self.decoder.embed_positions  # type: ignore[assignment]
        places = nn.functional.embedding(positions + table.offset, table.weight)  # type: ignore[operator]
        states = self.decoder.embed_tokens(ids) + places[:, None]  # type: ignore[operator]
        normed: Tensor = self.decoder.layernorm_embedding(states)  # type: ignore[operator]
        return normed

    def run(self, states: Tensor) -> Tensor:
        for layer in self.decoder.layers:  # type: ignore[union-attr]
            states = layer(states, encoder_hidden_states=states)
        return states

    def logits(self, states: Tensor) -> Tensor:
        logits: Tensor = self.model.lm_head(states) + self.model.final_logits_bias  # type: ignore[operator]
        return logits


_FAMILIES: dict[type[nn.Module], type[T5Family] | type[BartFamily]] = {
    T5ForConditionalGeneration: T5Family,
    MT5ForConditionalGeneration: T5Family,
    BartForConditionalGeneration: BartFamily,
}
ARCHITECTURES = tuple(model.__name__ for model in _FAMILIES)


def family_of(model: nn.Module) -> Seq2SeqFamily:
    """Finds the family of a model. Raises CheckpointError for a class of none."""
    family = _FAMILIES.get(type(model))
    if family is None:
        raise CheckpointError(not_exported(type(model).__name__))
    return family(model)


def not_exported(architecture: str) -> str:
    """Says that a class is of no family that is exported."""
    known = ", ".join(ARCHITECTURES)
    return f"{architecture} is not exported as an encoder-decoder that writes: --kind seq2seq takes {known}"
