"""Fixtures of rankers over a sample bundle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.runtime.store.store import TokenEntry, TokenSpec, TokenStore
from support.reference_backend import HIDDEN
from support.small_rankers import EMBEDDINGS, ENCODER


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    """A store with the tokens of "item0", "item1" and "item2" of the paired encoder."""
    with TokenStore.open(tmp_path / "tokens", create=True) as opened:
        namespace = opened.namespace(ENCODER, TokenSpec(2, HIDDEN, "float16"), create=True)
        namespace.put_many([TokenEntry(f"item{row}", EMBEDDINGS[row], bytes(16)) for row in range(3)])
        yield opened
