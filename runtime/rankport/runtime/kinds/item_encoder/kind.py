"""The item encoder as the table of kinds lists it."""

import logging
from dataclasses import replace

from rankport.runtime.backends.choice import is_made_for
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.item_encoder.rules import NAME, RULES
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.store.contract import TokenStore

_log = logging.getLogger(__name__)


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> ItemEncoder:
    """Loads it on the CPU, beside rankers on GPUs, where the bundle has nothing for a GPU."""
    if is_made_for(bundle, config.device):
        return ItemEncoder.load(bundle, config=config)
    on_cpu = replace(DEFAULTS, threads=config.threads, prepacking=config.prepacking)
    encoder = ItemEncoder.load(bundle, config=on_cpu)
    _log.warning(
        "item encoder %s runs on the CPU: the bundle has nothing for %s", bundle.manifest.name, config.device
    )
    return encoder


def _load_encoder(bundle: Bundle, config: EngineConfig) -> ItemEncoder:
    return ItemEncoder.load(bundle, config=config)


ITEM_ENCODER = Kind(NAME, RULES[NAME], _load, load_encoder=_load_encoder)
