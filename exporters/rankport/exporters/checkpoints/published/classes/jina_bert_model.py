"""Body and classifier of Jina's BERT, for transformers' loaders: attention whose scores fall with distance, both ways.

Scores are q k / sqrt(d) - m |i - j|, with a slope m of each head (ALiBi, arXiv 2108.12409; both ways: 2310.19923,
section 3). A text's answer does not depend on the padding behind it.
"""

import math

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.bert.modeling_bert import (
    BertForSequenceClassification,
    BertPooler,
    BertPreTrainedModel,
    BertSelfOutput,
)

from rankport.exporters.checkpoints.published.classes.jina_bert_config import JinaBertConfig

_ACTIVATIONS = {"geglu": nn.GELU, "reglu": nn.ReLU}


def slopes_of(heads: int) -> list[float]:
    """Lists the slopes of heads: a geometric series, and between its members those of heads beyond a power of two."""
    whole = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * place / whole) for place in range(1, whole + 1)]
    between = [2.0 ** (-4.0 * place / whole) for place in range(1, 2 * whole, 2)]
    return slopes + between[: heads - whole]


class JinaBertEmbeddings(nn.Module):
    """Embeddings of tokens and of their types, normed: no positions."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor, types: Tensor) -> Tensor:
        """Gives states [items, tokens, width] of ids and types [items, tokens]."""
        states: Tensor = self.LayerNorm(self.word_embeddings(ids) + self.token_type_embeddings(types))
        return states


class JinaBertSelfAttention(nn.Module):
    """Attention of all heads to all tokens, their scores moved by a bias."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        norms = config.qk_norms
        self.layer_norm_q, self.layer_norm_k = (
            nn.LayerNorm(width, eps=config.layer_norm_eps) if norms else nn.Identity() for _ in range(2)
        )

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Mixes states [items, tokens, width] by scores that `bias` [items, heads, tokens, tokens] is added to."""
        query = self._by_head(self.layer_norm_q(self.query(states)))
        key = self._by_head(self.layer_norm_k(self.key(states)))
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5 + bias
        mixed: Tensor = scores.softmax(-1) @ self._by_head(self.value(states))
        return mixed.transpose(1, 2).reshape(states.shape)

    def _by_head(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call, no-any-return]


class JinaBertAttention(nn.Module):
    """Attention, its output, and the norm of what both are added to."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.self = JinaBertSelfAttention(config)
        self.output = BertSelfOutput(config)  # type: ignore[no-untyped-call]

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Maps [items, tokens, width] to the same."""
        mixed: Tensor = self.output(self.self(states, bias), states)
        return mixed


class JinaBertMLP(nn.Module):
    """down(activation(gate x) * up x)."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = _ACTIVATIONS[config.feed_forward_type]()

    def forward(self, states: Tensor) -> Tensor:
        """Maps [..., width] to the same."""
        fed: Tensor = self.down(self.activation(self.gate(states)) * self.up(states))
        return fed


class JinaBertLayer(nn.Module):
    """Attention and an MLP, each with its norm behind; with norms of queries and keys one norm more between them."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.attention = JinaBertAttention(config)
        self.mlp = JinaBertMLP(config)
        self.has_norm_between = config.qk_norms
        if config.qk_norms:
            self.norm_between = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Maps [items, tokens, width] to the same."""
        mixed = self.attention(states, bias)
        if self.has_norm_between:
            mixed = self.norm_between(states + mixed)
        normed: Tensor = self.norm(mixed + self.mlp(mixed))
        return normed


class JinaBertEncoder(nn.Module):
    """Layers, one behind the other."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(JinaBertLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Maps [items, tokens, width] to the same."""
        for layer in self.layer:
            states = layer(states, bias)
        return states


class JinaBertModel(BertPreTrainedModel):
    """Body: embeddings, layers and a pooler."""

    config_class = JinaBertConfig

    def __init__(self, config: JinaBertConfig, add_pooling_layer: bool = True) -> None:
        """Makes it, weights as transformers initializes them."""
        super().__init__(config)  # type: ignore[no-untyped-call]
        self.embeddings = JinaBertEmbeddings(config)
        self.encoder = JinaBertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None  # type: ignore[no-untyped-call]
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        """Finds the table of tokens."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Puts another one in its place."""
        self.embeddings.word_embeddings = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **kwargs: object,
    ) -> BaseModelOutputWithPooling:
        """Computes states of texts [items, tokens], padded where the mask is 0."""
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self.embeddings(input_ids, types)
        states = self.encoder(states, self._bias(mask, states.dtype))
        pooled = None if self.pooler is None else self.pooler(states)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)

    def _bias(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """Makes what is added to scores: -m |i - j|, and nothing of padding. [items, heads, tokens, tokens]"""
        slopes = torch.tensor(slopes_of(self.config.num_attention_heads), dtype=dtype, device=mask.device)
        places = torch.arange(mask.shape[1], device=mask.device)
        distances = (places[None] - places[:, None]).abs().to(dtype)
        falls = -slopes[:, None, None] * distances
        return torch.where(mask[:, None, None].to(torch.bool), falls[None], torch.finfo(dtype).min)


class JinaBertForSequenceClassification(BertForSequenceClassification):
    """Body, and BERT's head of labels over its first state."""

    config_class = JinaBertConfig

    def __init__(self, config: JinaBertConfig) -> None:
        """Makes both, weights as transformers initializes them."""
        super().__init__(config)
        self.bert = JinaBertModel(config)  # type: ignore[assignment]
        self.post_init()  # type: ignore[no-untyped-call]


AutoModel.register(JinaBertConfig, JinaBertModel, exist_ok=True)
AutoModelForSequenceClassification.register(JinaBertConfig, JinaBertForSequenceClassification, exist_ok=True)
