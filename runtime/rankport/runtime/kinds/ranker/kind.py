"""The ranker as the table of kinds lists it."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.ranker.rules import NAME, RULES
from rankport.runtime.store.contract import TokenStore


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> Ranker:
    """Loads it with the store that all models of a server share, if its items may be keys."""
    return Ranker.load(bundle, store=store if _reads_tokens(bundle) else None, config=config)


def _reads_tokens(bundle: Bundle) -> bool:
    return bundle.manifest.embedding is not None


RANKER = Kind(NAME, RULES[NAME], _load, _reads_tokens)
