"""Fixtures of encode jobs: a store, an encoder and its namespace there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.runtime.jobs.encode_job import namespace_of
from rankport.runtime.store.contract import TokenNamespace, TokenStore
from rankport.runtime.store.opening import open_store
from support.hash_encoder import HashEncoder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TokenStore]:
    """An empty store."""
    with open_store(tmp_path / "store", create=True) as store:
        yield store


@pytest.fixture
def encoder() -> HashEncoder:
    """An encoder of hashes."""
    return HashEncoder()


@pytest.fixture
def namespace(store: TokenStore, encoder: HashEncoder) -> TokenNamespace:
    """The encoder's namespace, empty."""
    return namespace_of(store, encoder)
