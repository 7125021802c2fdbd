"""Keys of scores: hashes [16] of all that the score of an item depends on, never of less.

That is the bundle's fingerprint, the prefix, how texts are cut, the item's content and its wide features. A key of a
token store stands for its tokens, which are read and hashed: whatever is written to the store, no old score is found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import is_embedding, is_id_run
from rankport.protos.columns import Column, ItemColumns, RaggedIds
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.types import Key, Query
from rankport.runtime.server.scoring.rows import with_rows
from rankport.runtime.store.hot_tokens import HotTokens

_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class KeyedQuery:
    """Query whose stored items are their tokens, and the key of each item's score; None of those that have none."""

    query: ScoreQuery
    keys: Sequence[bytes | None]  # [items]


def keyed_query(
    fingerprint: str, query: ScoreQuery, tokens: HotTokens | None, *, apart: bool
) -> KeyedQuery | None:
    """Makes the keys of a query's scores; None where something is read of it that no key covers.

    Items that are scored `apart` have keys of their own; in others the whole list stands, in its order.

    Raises `StoreError` if the store cannot be read.
    """
    base = _base(fingerprint, query)
    if base is None or (query.items.keys is not None and tokens is None):
        return None
    if tokens is not None:
        query = _with_tokens(query, tokens)
    keys = _item_keys(base, query)
    if not apart:
        keys = _list_keys(base, keys)
    return KeyedQuery(query, keys)


def _base(fingerprint: str, query: ScoreQuery) -> bytes | None:
    """Hashes what all items share."""
    prefix = _told(query.prefix)
    if prefix is None:
        return None
    names = () if query.features is None else (str(query.features.values.shape[1]), *query.features.names)
    parts = (fingerprint.encode(), query.truncation.encode(), prefix, *(name.encode() for name in names))
    return _hash(b"", b"base", *parts)


def _told(prefix: Query) -> bytes | None:
    """Writes a prefix; None of one that is read elsewhere, or is malformed."""
    if isinstance(prefix, str):
        return b"text" + prefix.encode(errors="surrogatepass")
    if isinstance(prefix, Mapping):
        return b"fields" + repr(sorted(prefix.items(), key=repr)).encode(errors="surrogatepass")
    if isinstance(prefix, np.ndarray) and is_embedding(prefix):
        return b"row" + _written(prefix)
    if isinstance(prefix, Key) or not is_id_run(prefix):
        return None
    return b"ids" + repr(list(prefix)).encode()


def _with_tokens(query: ScoreQuery, tokens: HotTokens) -> ScoreQuery:
    """Puts stored tokens in the place of their keys; what is not stored stays a key."""
    keys = query.items.keys
    if keys is None:
        return query
    stored = tokens.read(keys.values)
    return replace(query, items=with_rows(query.items, keys.places[stored.places], stored.tokens))


def _item_keys(base: bytes, query: ScoreQuery) -> list[bytes | None]:
    items = query.items
    keys: list[bytes | None] = [None] * items.count
    features = None if query.features is None else query.features.values
    for kind, column in _contents(items):
        for place, content in zip(column.places.tolist(), column.values, strict=True):
            wide = b"" if features is None else features[place].tobytes()
            keys[place] = _hash(base, kind, wide, content)
    return keys


def _contents(items: ItemColumns) -> list[tuple[bytes, Column[Sequence[bytes]]]]:
    """Lists the columns of items as bytes, but for keys."""
    columns: list[tuple[bytes, Column[Sequence[bytes]]]] = []
    if items.texts is not None:
        texts = [text.encode(errors="surrogatepass") for text in items.texts.values]
        columns.append((b"text", Column(texts, items.texts.places)))
    if items.token_ids is not None:
        runs: RaggedIds = items.token_ids.values
        ids = [runs.run(index).tobytes() for index in range(len(runs))]
        columns.append((b"ids", Column(ids, items.token_ids.places)))
    if items.embeddings is not None:
        rows = [_written(row) for row in items.embeddings.values]
        columns.append((b"rows", Column(rows, items.embeddings.places)))
    return columns


def _list_keys(base: bytes, keys: Sequence[bytes | None]) -> list[bytes | None]:
    """Makes keys of places in one list, if all of its items have keys."""
    known = [key for key in keys if key is not None]
    if len(known) < len(keys):
        return [None] * len(keys)
    whole = _hash(base, b"list", *known)
    return [_hash(whole, b"place", str(place).encode()) for place in range(len(keys))]


def _written(array: NDArray[Any]) -> bytes:
    return f"{array.dtype.str}{array.shape}".encode() + array.tobytes()


def _hash(key: bytes, kind: bytes, *parts: bytes) -> bytes:
    """Hashes parts, each with its length; `kind` tells apart what is hashed."""
    hashed = blake2b(digest_size=_KEY_BYTES, key=key, person=kind)
    for part in parts:
        hashed.update(len(part).to_bytes(8))
        hashed.update(part)
    return hashed.digest()
