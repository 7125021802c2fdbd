"""Two towers as the table of kinds lists them."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.two_tower.loading import has_rows
from rankport.runtime.kinds.two_tower.rules import NAME, RULES, is_sparse
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.store.contract import TokenStore


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> Towers:
    return Towers.load(bundle, store=store, config=config)


def _load_encoder(bundle: Bundle, config: EngineConfig) -> Towers:
    return Towers.load(bundle, config=config)


def _reads_tokens(bundle: Bundle) -> bool:
    return not is_sparse(bundle.manifest)


def _without_keys(bundle: Bundle, store: TokenStore) -> str:
    if has_rows(store, bundle.manifest.fingerprint):
        return ""
    return f"store {store.location} has no representations of it: run `rankport encode` with it and load it again"


TWO_TOWER = Kind(NAME, RULES[NAME], _load, _reads_tokens, _without_keys, _load_encoder)
"""The row of the table."""
