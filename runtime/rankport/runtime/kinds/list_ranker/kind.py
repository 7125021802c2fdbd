"""The list ranker as the table of kinds lists it."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.list_ranker.list_ranker import ListRanker
from rankport.runtime.kinds.list_ranker.rules import NAME, RULES
from rankport.runtime.store.contract import TokenStore


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> ListRanker:
    """Loads it with the store that all models of a server share, if its items may be keys."""
    return ListRanker.load(bundle, store=store if _reads_tokens(bundle) else None, config=config)


def _reads_tokens(bundle: Bundle) -> bool:
    return bundle.manifest.embedding is not None


LIST_RANKER = Kind(NAME, RULES[NAME], _load, _reads_tokens)
