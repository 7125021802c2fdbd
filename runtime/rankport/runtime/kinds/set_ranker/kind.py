"""Rankers of sets as the table of kinds lists them."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.set_ranker.rules import NAME, RULES
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from rankport.runtime.store.contract import TokenStore


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> SetRanker:
    """Loads it with the store that all models of a server share, if its content features may be keys."""
    return SetRanker.load(bundle, store=store if _reads_tokens(bundle) else None, config=config)


def _reads_tokens(bundle: Bundle) -> bool:
    return bundle.manifest.pairing is not None


SET_RANKER = Kind(NAME, RULES[NAME], _load, _reads_tokens)
"""The row of the table."""
