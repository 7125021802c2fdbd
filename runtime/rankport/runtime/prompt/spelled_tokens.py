"""`SpelledTokens`: special tokens that a model of tokens makes of their names, and how a text is kept from it.

The library's switch leaves the names of special tokens to the model, which may have them among its pieces: Unigrams
(T5, XLM-RoBERTa) have `</s>`, likelier than any other. Such texts are tokenized again, each name cut in two.
"""

import re
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import tokenizers
from tokenizers import models, pre_tokenizers

from rankport.protos.columns import RaggedIds

_UNKNOWN_CHARACTER = "\U0010fffd"  # of no script: for private use


class SpelledTokens:
    """Special tokens of a tokenizer that its model has as pieces. Any thread may ask."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        """Looks them up; the token of what is unknown stands for any text, and is none of them."""
        self._inner = inner
        unknown = _unknown(inner.model)
        added = inner.get_added_tokens_decoder()
        spelled = {
            place: token.content
            for place, token in added.items()
            if token.special and place not in unknown and inner.model.token_to_id(token.content) == place
            if len(token.content) > 1  # a sole character cannot be cut
        }
        self._names = tuple(spelled.values())
        # By token; the last one stands for all that follow.
        self._spelled = np.zeros(2 + max(spelled, default=0), np.bool_)
        self._spelled[list(spelled)] = True

    def texts(self, runs: RaggedIds) -> list[int]:
        """Lists the texts whose tokens hold one of them."""
        spelled = self._spelled.take(runs.ids, mode="clip")
        if not spelled.any():
            return []
        found = np.searchsorted(runs.offsets, np.flatnonzero(spelled), side="right") - 1
        texts: list[int] = np.unique(found).tolist()
        return texts

    @cached_property
    def apart(self) -> tokenizers.Tokenizer:
        """The tokenizer, which cuts each of their names behind its first character. It shares the model."""
        made = tokenizers.Tokenizer(self._inner.model)
        made.normalizer = self._inner.normalizer  # first: added tokens are looked for as it leaves them
        added = self._inner.get_added_tokens_decoder()
        for _, token in sorted(added.items()):
            (made.add_special_tokens if token.special else made.add_tokens)([token])
        assert made.get_added_tokens_decoder().keys() == added.keys(), "tokens have their ids in order"
        made.encode_special_tokens = True
        cut = pre_tokenizers.Split(tokenizers.Regex(_first_characters(self._names)), "merged_with_previous")
        before = self._inner.pre_tokenizer
        made.pre_tokenizer = pre_tokenizers.Sequence([cut] if before is None else [before, cut])
        return made


def _unknown(model: models.Model) -> set[int | None]:
    """Finds the token that a model has for what it does not know."""
    if isinstance(model, models.Unigram):
        try:
            return {token.id for token in model.tokenize(_UNKNOWN_CHARACTER)}
        except Exception:  # the library raises a bare one where the model has no such token
            return set()
    name = getattr(model, "unk_token", None)
    return set() if name is None else {model.token_to_id(name)}


def _first_characters(names: Iterable[str]) -> str:
    """Writes the pattern of the first character of each name, where the rest follows."""
    rests: dict[str, list[str]] = {}
    for name in names:
        rests.setdefault(name[0], []).append(name[1:])
    return "|".join(
        f"{re.escape(first)}(?={'|'.join(map(re.escape, others))})" for first, others in rests.items()
    )
