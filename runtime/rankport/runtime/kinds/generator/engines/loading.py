"""Loads the engine of a writing bundle, in this process or another."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.engines.local import LocalWriting, own_config
from rankport.runtime.kinds.generator.engines.remote import RemoteWriting
from rankport.runtime.prompt.tokenizer import Tokenizer

WritingEngine = LocalWriting | RemoteWriting
"""Way of a writing bundle to its engine, in this process or another."""


def load_engine(bundle: Bundle, config: EngineConfig, tokenizer: Tokenizer | None, gpu: int) -> WritingEngine:
    """Loads the engine of a bundle for one device, here or where the settings say. Raises as `load_decode_backend`."""
    if config.engines_at:
        return RemoteWriting(bundle, own_config(config, bundle), gpu)
    return LocalWriting.load(bundle, config, tokenizer, gpu)
