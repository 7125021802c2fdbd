"""Stored tokens by key, as a server tells them."""

from collections.abc import Sequence

import numpy as np

from rankport.protos.types import ItemStatus, LookupResult
from rankport.runtime.store.hot_tokens import HotTokens


def look_up(tokens: HotTokens, keys: Sequence[str]) -> LookupResult:
    """Reads the tokens of keys in one go. A key that is not there has NaN tokens and says so.

    Raises:
        InvalidRequest: something is no key.
        StoreError: the store cannot be read.
    """
    stored, spec = tokens.read(keys), tokens.spec
    rows = np.full((len(keys), spec.tokens, spec.hidden_size), np.nan, spec.numpy_dtype)
    rows[stored.places] = stored.tokens
    there = np.zeros(len(keys), np.bool_)
    there[stored.places] = True
    return LookupResult(
        embeddings=rows,
        status=tuple(ItemStatus.OK if found else ItemStatus.NOT_FOUND for found in there),
        messages=tuple(
            "" if found else f"no tokens of key {key!r} under encoder {tokens.fingerprint}"
            for key, found in zip(keys, there, strict=True)
        ),
        fingerprint=tokens.fingerprint,
    )
