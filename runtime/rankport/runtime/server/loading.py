"""Loads the bundles a server is to serve, under their names, and closes them again."""

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.kind import Kind, Model
from rankport.runtime.kinds.table import KINDS, kind_of, open_bundle
from rankport.runtime.store.store import TokenStore

_log = logging.getLogger(__name__)


@contextmanager
def loaded_models(
    bundles: Sequence[str],
    store: str | os.PathLike[str] | None,
    config: EngineConfig,
    kinds: Sequence[Kind] = KINDS,
    *,
    frozen: bool = False,
) -> Iterator[Mapping[str, Model]]:
    """Opens the models of `bundles` by name, until the end of the block.

    Each entry is a bundle's directory, or NAME=DIRECTORY to name it otherwise than its manifest does. All models that
    take tokens read the one `store`, `frozen` without a lock. The load's leftovers are collected, and what stays is
    taken out of the garbage collector's sight: its full passes over a loaded model would stop requests for 100 ms and
    more.

    Raises:
        InvalidRequest: two bundles have one name, or an entry an empty one; tokens are to stay on a device, and none
            of them takes any.
        RankportError: as the `load` of their kinds.
    """
    with ExitStack() as owned:
        tokens = (
            None
            if store is None
            else owned.enter_context(TokenStore.open(store, read_only=True, frozen=frozen))
        )
        models: dict[str, Model] = {}
        named = _named(bundles, kinds)
        if config.device_tokens_bytes and not any(
            kind_of(bundle, kinds).reads_tokens(bundle) for bundle in named.values()
        ):
            raise InvalidRequest(
                f"device_tokens_bytes is {config.device_tokens_bytes}, and none of {', '.join(named)} takes "
                "embedding tokens: leave --device-tokens out, or serve a ranker that takes them"
            )
        for name, bundle in named.items():
            model = kind_of(bundle, kinds).load(bundle, config, tokens)
            owned.callback(model.close)
            models[name] = model
        gc.collect()
        gc.freeze()
        owned.callback(gc.unfreeze)
        yield models


def _named(bundles: Sequence[str], kinds: Sequence[Kind]) -> dict[str, Bundle]:
    named: dict[str, Bundle] = {}
    for entry in bundles:
        name, path = _split(entry)
        bundle = open_bundle(path, kinds)
        name = name or bundle.manifest.name
        if name in named:
            raise InvalidRequest(
                f"{named[name].path} and {path} are both named {name!r}: give one another name, NAME={path}"
            )
        named[name] = bundle
    return named


def _split(entry: str) -> tuple[str, str]:
    """Splits name ("" if none is given) and directory. A directory that has a "=" in its own name is one."""
    name, separator, path = entry.partition("=")
    if not separator or Path(entry).is_dir():
        return "", entry
    if not name:
        raise InvalidRequest(f"{entry!r} gives no name: give NAME=DIRECTORY, or the directory alone")
    return name, path
