"""Small snapshots, written for a test."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.store.snapshot.writer import Facts, SnapshotWriter
from rankport.runtime.store.token_spec import TokenSpec
from support.token_samples import ENCODER, HASH, SPEC, tokens_of

WRITTEN_US = 1_700_000_000_000_000


def write_snapshot(
    directory: Path,
    items: Mapping[str, int] | Mapping[str, NDArray[np.floating]],
    spec: TokenSpec = SPEC,
    encoder: str = ENCODER,
    content_hash: bytes = HASH,
) -> Path:
    """Writes a snapshot of items, each with its tokens or the number that they all hold; returns its file."""
    rows = [value if isinstance(value, np.ndarray) else tokens_of(value) for value in items.values()]
    tokens = np.stack(rows) if rows else np.empty((0, spec.tokens, spec.hidden_size), spec.numpy_dtype)
    with SnapshotWriter(directory, encoder, spec, "test") as writer:
        writer.append(facts_of(list(items), content_hash), tokens)
        writer.seal()
        writer.publish()
        return writer.path


def facts_of(keys: list[str], content_hash: bytes = HASH) -> Facts:
    """Makes facts of keys, all written at one time."""
    return Facts(keys, [content_hash] * len(keys), [WRITTEN_US] * len(keys))
