"""`LateInteraction`: a body of transformers whose states are vectors of a text, and MaxSim of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.late_interaction.form import LateForm
from rankport.exporters.checkpoints.sentence_transformers.dense import require_fits
from rankport.exporters.checkpoints.sentence_transformers.dense_module import dense_stack
from rankport.exporters.checkpoints.sentence_transformers.transformer import FILLS_LEFT
from rankport.exporters.checkpoints.states import states_width
from rankport.protos.errors import CheckpointError
from rankport.protos.types import Side

_NOTHING = -1e9
"""Score of an item without a vector, all of whose tokens are skipped: sentence-transformers', below any other."""


@dataclass(frozen=True, slots=True)
class LateTokens:
    """Ids of the tokens that a form names."""

    expansion: int | None  # that fills a query
    skipped: Sequence[int]

    @classmethod
    def of(cls, form: LateForm, tokenizer: Any) -> "LateTokens":
        """Finds the ids by a tokenizer of transformers.

        Raises CheckpointError for a token that it lacks, and for one that fills a text at its left.
        """
        if form.expansion is not None and tokenizer.padding_side == "left":
            raise CheckpointError(f"{form.where}: padding_side 'left' of tokenizer_config.json {FILLS_LEFT}")
        unknown = tokenizer.unk_token_id
        skipped = []
        for word in form.skipped:
            token = tokenizer.convert_tokens_to_ids(word)
            if token is not None and (token != unknown or form.skips_unknown or word == tokenizer.unk_token):
                skipped.append(int(token))
        return cls(_expansion_id(form, tokenizer), tuple(dict.fromkeys(skipped)))


class LateInteraction(nn.Module):
    """A `TowersModule` of several vectors a text: its tokens' states behind the dense layers of the folder.

    A text has a vector for each token that counts, and zeros for the others; the score of a query and an item is the
    sum over the query's vectors of the largest dot product with one of the item's (MaxSim of ColBERT,
    arXiv 2004.12832), or its mean over them.
    """

    kept: Tensor

    def __init__(self, body: nn.Module, form: LateForm, tokens: LateTokens) -> None:
        """Takes the body over. Raises CheckpointError where dense layers or tokens do not fit it."""
        super().__init__()
        layers = [layer for layer, _ in form.dense]
        config: Any = body.config
        self.width = states_width(body, config.get_text_config().hidden_size)
        for layer in layers:
            self.width = require_fits(form.where, layer, self.width)
        self.body, self.config, self.form, self.tokens = body, config, form, tokens
        self.dense = dense_stack(layers, [weights for _, weights in form.dense])
        rows: int = body.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        if tokens.expansion is not None and tokens.expansion >= rows:
            raise CheckpointError(
                f"{form.where}: queries are filled with token {tokens.expansion}, and the model has rows for {rows}: "
                "save it again with the library that trained it, which makes one for each token"
            )
        kept = torch.ones(rows, dtype=torch.bool)
        kept[[token for token in tokens.skipped if token < rows]] = False  # of others no text has one
        self.register_buffer("kept", kept, persistent=False)

    def represent(self, input_ids: Tensor, attention_mask: Tensor, side: Side) -> Tensor:
        """Computes the vectors of texts, both [texts, tokens] int64, padded at the end. [texts, vectors, width]"""
        if side == "item":
            return self._vectors(input_ids, attention_mask, attention_mask.bool() & self.kept[input_ids])
        if self.form.expansion is None:
            counted = attention_mask.bool()
        else:
            input_ids, attention_mask, counted = self._expanded(input_ids, attention_mask)
        if self.form.skips_queries:
            counted = counted & self.kept[input_ids]
        return self._vectors(input_ids, attention_mask, counted)

    def score(self, query: Tensor, items: Tensor, features: Tensor | None = None) -> Tensor:
        """Scores a query [vectors, width] and items [items, vectors, width]; vectors of zeros are none. [items, 1]"""
        there = items.abs().amax(dim=2) > 0
        products = (items @ query.T).masked_fill(~there[:, :, None], float("-inf"))
        total = products.amax(dim=1).sum(dim=1, keepdim=True)
        total = torch.where(there.any(dim=1, keepdim=True), total, _NOTHING)
        if self.form.similarity == "maxsim":
            return total
        return total / (query.abs().amax(dim=1) > 0).sum().clamp(min=1)

    def get_input_embeddings(self) -> nn.Module:
        """Gives the body's table."""
        table: nn.Module = self.body.get_input_embeddings()  # type: ignore[operator]
        return table

    def get_output_embeddings(self) -> None:
        """Gives none: no token is written."""

    def _expanded(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fills queries: their ids, mask, and which tokens count. [texts, query tokens] each"""
        expansion, most = self.form.expansion, self.form.query_tokens
        assert expansion is not None
        assert most is not None
        assert self.tokens.expansion is not None
        none = input_ids.new_zeros(input_ids.shape[0], most)
        ids = torch.cat([input_ids, none], dim=1)[:, :most]
        own = torch.cat([attention_mask, none], dim=1)[:, :most].bool()
        filled = ~own & (torch.arange(most) < expansion.length)
        ids = torch.where(filled, self.tokens.expansion, ids)
        counted = own | filled
        return ids, (counted if expansion.attended else own).to(attention_mask.dtype), counted

    def _vectors(self, input_ids: Tensor, attention_mask: Tensor, counted: Tensor) -> Tensor:
        states = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = self.dense(states)
        if self.form.normalize:
            vectors = nn.functional.normalize(vectors, dim=-1, eps=1e-12)
        return torch.where(counted[:, :, None], vectors, torch.zeros_like(vectors))


def _expansion_id(form: LateForm, tokenizer: Any) -> int | None:
    if form.expansion is None:
        return None
    named = form.expansion.token or tokenizer.mask_token or tokenizer.eos_token
    token = None if named is None else tokenizer.convert_tokens_to_ids(named)
    if token is None or (token == tokenizer.unk_token_id and named != tokenizer.unk_token):
        raise CheckpointError(
            f"{form.where}: queries are filled with {named or 'the mask token'!r}, which the tokenizer lacks: name one "
            "that it has in tokenizer_config.json, as mask_token"
        )
    return int(token)
