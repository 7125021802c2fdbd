"""Fixtures of token stores on disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.runtime.store.contract import TokenNamespace, TokenStore
from rankport.runtime.store.opening import open_store
from support.token_samples import ENCODER, SPEC


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where `store` lies, or a test opens one itself."""
    return tmp_path / "tokens"


@pytest.fixture
def store(path: Path) -> Iterator[TokenStore]:
    """An empty store at `path`."""
    with open_store(path, create=True) as store:
        yield store


@pytest.fixture
def namespace(store: TokenStore) -> TokenNamespace:
    """The sample encoder's namespace in `store`, empty."""
    return store.namespace(ENCODER, SPEC, create=True)
