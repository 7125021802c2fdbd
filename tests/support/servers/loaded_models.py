"""Models of bundles by name, as a server loads them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.capabilities import Model
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.table import KINDS
from rankport.runtime.server.loading import ModelLoader


@contextmanager
def loaded_models(
    bundles: Sequence[str],
    store: str | os.PathLike[str] | None,
    config: EngineConfig,
    kinds: Sequence[Kind] = KINDS,
) -> Iterator[Mapping[str, Model]]:
    """Opens the models of `bundles` by name, until the end of the block. Raises as `ModelLoader.load_all`."""
    with ModelLoader.opened(store, config, kinds) as loader:
        yield loader.load_all(bundles)
