"""Rankers of sets as the table of kinds lists them."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.set_ranker.rules import NAME, RULES
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from rankport.runtime.store.contract import TokenStore


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> SetRanker:
    return SetRanker.load(bundle, store=store, config=config)


def _reads_tokens(bundle: Bundle) -> bool:
    return bundle.manifest.pairing is not None


SET_RANKER = Kind(NAME, RULES[NAME], _load, _reads_tokens)
"""The row of the table."""
