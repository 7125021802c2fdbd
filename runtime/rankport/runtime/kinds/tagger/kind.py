"""The tagger as the table of kinds lists it."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.tagger.rules import NAME, RULES
from rankport.runtime.kinds.tagger.tagger import Tagger
from rankport.runtime.store.contract import TokenStore


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> Tagger:
    return Tagger.load(bundle, config=config)


TAGGER = Kind(NAME, RULES[NAME], _load)
