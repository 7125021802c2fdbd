"""Fixtures of rankers over a sample bundle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.runtime.store.contract import TokenEntry, TokenStore
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.token_spec import TokenSpec
from support.reference_backend import HIDDEN
from support.small_rankers import EMBEDDINGS, ENCODER


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    """A store with the tokens of "item0", "item1" and "item2" of the paired encoder."""
    with open_store(tmp_path / "tokens", create=True) as opened:
        namespace = opened.namespace(ENCODER, TokenSpec(2, HIDDEN, "float16"), create=True)
        namespace.put_many([TokenEntry(f"item{row}", EMBEDDINGS[row], bytes(16)) for row in range(3)])
        yield opened
