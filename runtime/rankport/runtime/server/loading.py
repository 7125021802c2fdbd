"""Loads the bundles a server is to serve, under their names, and closes them again."""

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.capabilities import Model
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.table import KINDS, kind_of, open_bundle
from rankport.runtime.options import check_folder
from rankport.runtime.server.lifecycle.roots import below_a_root
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.opening import open_store

_log = logging.getLogger(__name__)


class ModelLoader:
    """Loads bundles of any kind for one server, with one token store and one engine's settings. Closes them.

    A load's leftovers are collected, and what stays is taken out of the garbage collector's sight: its full passes over
    a loaded model would stop requests for 100 ms and more.
    """

    def __init__(
        self,
        store: TokenStore | None,
        config: EngineConfig,
        kinds: Sequence[Kind] = KINDS,
        roots: Sequence[str] = (),
    ) -> None:
        """Takes the folders below which a running server may load bundles. `open` makes one that owns its store."""
        self._store, self._config, self._kinds, self._roots = store, config, kinds, roots
        self._open: dict[int, Model] = {}  # by identity
        self._loading: list[Bundle] = []  # while others answer
        self._closed = False

    @classmethod
    @contextmanager
    def opened(
        cls,
        store: str | os.PathLike[str] | None,
        config: EngineConfig,
        kinds: Sequence[Kind] = KINDS,
        *,
        frozen: bool = False,
        write_back: bool = False,
        roots: Sequence[str] = (),
    ) -> "Iterator[ModelLoader]":
        """Opens the store, and closes all that was loaded at the end of the block.

        Under a load that still goes on then the store stays open, as long as the process.
        It is read, `frozen` without a lock, or written to with what requests have encoded. Raises `InvalidRequest` for
        a root, of models or of tries, that is no folder.
        """
        for root in roots:
            check_folder("model root", root)
        if config.trie_root is not None:  # of generators that are loaded while it runs, too
            check_folder("trie_root", config.trie_root)
        with ExitStack() as owned:
            tokens = None
            if store is not None:
                tokens = owned.enter_context(
                    open_store(store, read_only=not write_back, frozen=frozen, follow=True)
                )
            loader = cls(tokens, config, kinds, roots)
            try:
                yield loader
            finally:
                loader.close_all()
                if loader._loading:
                    owned.pop_all()

    @property
    def store(self) -> TokenStore | None:
        """Token store that the models read, if there is one."""
        return self._store

    def load_all(self, bundles: Sequence[str]) -> Mapping[str, Model]:
        """Loads models by name. Each entry is a bundle's directory, or NAME=DIRECTORY to name it otherwise.

        Raises:
            InvalidRequest: two bundles have one name, or an entry an empty one; tokens are to stay on a device, and
                none of them takes any.
            RankportError: as the `load` of their kinds.
        """
        named = named_bundles(bundles, self._kinds)
        check_device_tokens(self._config, named, self._kinds)
        models = {name: self._load(bundle) for name, bundle in named.items()}
        _settle()
        return models

    def open(self, path: str) -> "_Opened":
        """Opens a bundle below a root. Raises `InvalidRequest` for another path, `BundleError` for a bad bundle."""
        return _Opened(self, open_bundle(below_a_root(path, self._roots), self._kinds))

    def load(self, bundle: Bundle) -> Model:
        """Loads one bundle while others answer. Raises as its kind, `Unavailable` if the server stops meanwhile."""
        self._loading.append(bundle)
        try:
            model = self._load(bundle)
        finally:
            self._loading.remove(bundle)
        if self._closed:
            self.close(model, 0.0)
            raise Unavailable("the server is stopping; load it at another one")
        _settle()
        return model

    def close(self, model: Model, grace_s: float) -> None:
        """Closes a model that was loaded here, and frees its memory; leaves others to who loaded them."""
        if self._open.pop(id(model), None) is None:
            return
        model.close(grace_s)
        gc.unfreeze()
        _settle()

    def close_all(self) -> None:
        """Closes what is left; a load that is under way closes its model itself."""
        self._closed = True
        while self._open:
            self._open.popitem()[1].close()
        gc.unfreeze()

    def _load(self, bundle: Bundle) -> Model:
        kind = kind_of(bundle, self._kinds)
        model = kind.load(bundle, self._config, self._store_of(kind, bundle))
        self._open[id(model)] = model
        return model

    def _store_of(self, kind: Kind, bundle: Bundle) -> TokenStore | None:
        """Gives the store that all models share; None to one that takes no keys, or has none and does without."""
        if self._store is None or not kind.reads_tokens(bundle):
            return None
        if why := kind.without_keys(bundle, self._store):
            _log.warning("bundle %r is served without keys: %s", bundle.manifest.name, why)
            return None
        return self._store


@dataclass(frozen=True, slots=True)
class _Opened:
    """Bundle that may be loaded."""

    loader: ModelLoader
    bundle: Bundle

    @property
    def name(self) -> str:
        return self.bundle.manifest.name

    @property
    def version(self) -> str:
        return self.bundle.manifest.version

    def load(self) -> Model:
        return self.loader.load(self.bundle)


def _settle() -> None:
    gc.collect()
    gc.freeze()


def check_device_tokens(config: EngineConfig, named: Mapping[str, Bundle], kinds: Sequence[Kind]) -> None:
    """Raises `InvalidRequest` where tokens are to stay on a device, and none of the bundles takes any."""
    if config.device_tokens_bytes and not any(
        kind_of(bundle, kinds).reads_tokens(bundle) for bundle in named.values()
    ):
        raise InvalidRequest(
            f"device_tokens_bytes is {config.device_tokens_bytes}, and none of {', '.join(named)} takes embedding "
            "tokens: leave --device-tokens out, or serve a ranker that takes them"
        )


def named_bundles(bundles: Sequence[str], kinds: Sequence[Kind]) -> dict[str, Bundle]:
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
