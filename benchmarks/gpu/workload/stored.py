"""A token store of random tokens for a ranker that names no encoder: what requests by key are measured with."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankport.protos.types import Key
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.store.contract import TokenEntry, TokenNamespace
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec

STORED = 20_000
"""Items."""
_PUT = 2_000


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Stored items: keys for requests."""

    tokens: TokenNamespace
    keys: tuple[Key, ...]

    def drawn(self, requests: int, items: int) -> list[list[Key]]:
        """Items of some requests."""
        places = np.random.default_rng(0).integers(0, len(self.keys), (requests, items))
        return [[self.keys[place] for place in row] for row in places]


@contextmanager
def stored_catalogue(manifest: Manifest) -> Iterator[Catalogue]:
    """Gone after the block."""
    embedding = manifest.embedding
    assert embedding is not None
    spec = TokenSpec(embedding.tokens, embedding.hidden_size, "float16")
    keys = [f"item{number:06}" for number in range(STORED)]
    rng = np.random.default_rng(1)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(Path(folder) / "tokens", create=True) as store,
    ):
        namespace = store.namespace("e" * 64, spec, create=True)
        for start in range(0, STORED, _PUT):
            rows = rng.standard_normal((_PUT, spec.tokens, spec.hidden_size), np.float32) * np.float32(0.036)
            part = zip(keys[start : start + _PUT], rows.astype(np.float16), strict=True)
            namespace.put_many([TokenEntry(key, row, bytes(16)) for key, row in part])
        yield Catalogue(namespace, tuple(map(Key, keys)))


def resident_bytes(manifest: Manifest) -> int:
    """What they take on a device."""
    assert manifest.embedding is not None
    return STORED * manifest.embedding.tokens * manifest.embedding.hidden_size * 4
