"""Forms of prefixes in our own API's JSON."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import model_validator

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Key, Prefix, Query
from rankport.runtime.server.http.forms import Form, Numbers, TokenIds


class OneOf(Form):
    """Object of which exactly one field is set, or both of `together`."""

    together: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _one(self) -> "OneOf":
        if len(self.model_fields_set) != 1 and self.model_fields_set != self.together:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self


class PromptObject(OneOf):
    """Prompt of what writes, by its form."""

    text: str | None = None
    fields: Mapping[str, str] | None = None
    token_ids: TokenIds | None = None


class PrefixObject(OneOf):
    """Prefix that all items share, by its form."""

    text: str | None = None
    fields: Mapping[str, str] | None = None
    token_ids: TokenIds | None = None
    embeddings: Numbers | None = None  # [width] of a two-tower's query
    key: str | None = None  # of a two-tower's query in the store

    def value(self) -> Query:
        """Returns the prefix as models take it."""
        if self.key is not None:
            return Key(self.key)
        if self.embeddings is not None:
            return np.array(self.embeddings, np.float32)
        return _plain(self)


def prompt_value(prompt: str | PromptObject) -> Prefix:
    """Returns a prompt as models take it. Raises `InvalidRequest` for null."""
    return prompt if isinstance(prompt, str) else _plain(prompt)


def prompt_tokens(prompt: str | PromptObject) -> int:
    """Counts the tokens that are known before a prompt is tokenized."""
    return 0 if isinstance(prompt, str) or prompt.token_ids is None else len(prompt.token_ids)


def _plain(given: PromptObject | PrefixObject) -> Prefix:
    for form in (given.text, given.fields, given.token_ids):
        if form is not None:
            return form
    raise InvalidRequest("prefix is null: give it in one of its forms")
