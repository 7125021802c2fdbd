"""The generator as the table of kinds lists it."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.rules import NAME, RULES
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.store.store import TokenStore


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> Generator:
    return Generator.load(bundle, config=config)


GENERATOR = Kind(NAME, RULES[NAME], _load)
