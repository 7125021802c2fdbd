"""The generator, and the encoder-decoder that writes, as the table of kinds lists them."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.rules import NAME, RULES
from rankport.runtime.kinds.generator.seq2seq import rules as seq2seq
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.store.contract import TokenStore


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> Generator:
    return Generator.load(bundle, config=config)


GENERATOR = Kind(NAME, RULES[NAME], _load)
SEQ2SEQ = Kind(seq2seq.NAME, seq2seq.RULES[seq2seq.NAME], _load)
