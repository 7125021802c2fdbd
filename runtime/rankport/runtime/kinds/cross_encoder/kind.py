"""The cross-encoder as the table of kinds lists it."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.cross_encoder.cross_encoder import CrossEncoder
from rankport.runtime.kinds.cross_encoder.rules import NAME, RULES
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.store.contract import TokenStore


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> CrossEncoder:
    return CrossEncoder.load(bundle, config=config)


CROSS_ENCODER = Kind(NAME, RULES[NAME], _load)
