"""`SparseEncoder`: a masked LM of transformers whose logits, pooled over a text, weigh the vocabulary's tokens."""

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.sparse.form import SparseForm
from rankport.protos.errors import CheckpointError
from rankport.protos.types import Side

_LEAST_NORM = 1e-12


class StaticWeights(nn.Module):
    """A weight for each token that a text has, whatever stands beside it: queries that no model reads."""

    def __init__(self, weight: Tensor) -> None:
        """Takes the weights of the vocabulary [vocabulary]."""
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Weighs texts, both [texts, tokens] int64. [texts, vocabulary]"""
        none = torch.zeros(input_ids.shape[0], len(self.weight), dtype=self.weight.dtype)
        there = attention_mask.to(self.weight.dtype)
        weights: Tensor = none.scatter_reduce(1, input_ids, there, "amax") * self.weight
        return weights


class SparseEncoder(nn.Module):
    """A `TowersModule` of one weight a token of the vocabulary, most of them 0.

    A text's weights are log(1 + relu(logit)), the largest over its tokens or their sum (SPLADE, arXiv 2107.05720 and
    2109.10086), or a logarithm more (arXiv 2504.14839); the score of query and item is their dot product, or cosine.
    """

    def __init__(self, model: nn.Module, form: SparseForm, static: Tensor | None) -> None:
        """Takes the masked LM over, and the weights of a query's tokens where no model reads it.

        Raises CheckpointError where the folder says another vocabulary than the model has.
        """
        super().__init__()
        self.model, self.form, self.config = model, form, model.config
        self.width = _width(model, form)
        self.static = None if static is None else StaticWeights(static)
        if static is not None and len(static) != self.width:
            raise CheckpointError(
                f"{form.static}: weighs {len(static)} tokens, and the model of items {self.width}: are they of one "
                "tokenizer? Save the model anew with weights for all"
            )

    def represent(self, input_ids: Tensor, attention_mask: Tensor, side: Side) -> Tensor:
        """Weighs the vocabulary for texts, both [texts, tokens] int64, padded at the end. [texts, vocabulary]"""
        if side == "query" and self.static is not None:
            return self._kept(self.static(input_ids, attention_mask))
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        logits = torch.where(attention_mask[:, :, None] > 0, logits, torch.zeros_like(logits))
        if self.form.pooling == "sum":
            return self._kept(self._activated(logits).sum(dim=1))
        return self._kept(self._activated(logits.amax(dim=1)))  # what is largest stays so: the function rises

    def score(self, query: Tensor, items: Tensor, features: Tensor | None = None) -> Tensor:
        """Scores a query [vocabulary] and items [items, vocabulary]. [items, 1]"""
        if self.form.similarity == "dot":
            return (items * query).sum(dim=1, keepdim=True)
        unit = (nn.functional.normalize(rows, dim=-1, eps=_LEAST_NORM) for rows in (query, items))
        return (next(unit) * next(unit)).sum(dim=1, keepdim=True)

    def body(self, side: Side) -> nn.Module:
        """Gives what reads a side."""
        return self.static if side == "query" and self.static is not None else self.model

    def get_input_embeddings(self) -> nn.Module:
        """Gives the model's table."""
        table: nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        return table

    def get_output_embeddings(self) -> nn.Module | None:
        """Gives the layer of the logits, which low bits leave as it is."""
        head: nn.Module | None = self.model.get_output_embeddings()  # type: ignore[operator]
        return head

    def _activated(self, logits: Tensor) -> Tensor:
        weights = logits.relu().log1p()
        return weights.log1p() if self.form.activation == "log1p_relu" else weights

    def _kept(self, weights: Tensor) -> Tensor:
        """Keeps the largest weights of a text, by their size, and makes the others 0."""
        most = self.form.most_active
        if most is None or most >= self.width:
            return weights
        places = weights.abs().topk(most, dim=1).indices
        return torch.zeros_like(weights).scatter(1, places, weights.gather(1, places))


def _width(model: nn.Module, form: SparseForm) -> int:
    with torch.no_grad():
        width = int(model(input_ids=torch.ones(1, 1, dtype=torch.int64)).logits.shape[-1])
    if form.stated_width not in (None, width):
        raise CheckpointError(
            f"{form.where}: the pooling beside it states {form.stated_width} weights, and the model has logits for "
            f"{width} tokens: is it the pooling of another model?"
        )
    return width
