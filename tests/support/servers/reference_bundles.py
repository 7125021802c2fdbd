"""Bundles of small rankers whose weights are a number, and a kind that loads them over the reference backend.

They are opened as strictly as any bundle and answer as the engine does, without an export.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from rankport.protos.errors import BackendError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.ranker.kind import RANKER
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.keyed_items import KeyedItems, paired_tokens
from support.bundle_samples import RANKER_FILES, write_directory
from support.reference_backend import ReferenceBackend, ReferenceModel
from support.small_rankers import mix_draft

UNLOADABLE, WITHOUT_ANSWER = 254, 255
"""Weights of a bundle whose load fails, and of one whose logits are not finite."""


def reference_bundle(root: Path, name: str, version: str, seed: int) -> Path:
    """Writes a bundle of a ranker whose weights are drawn from a seed, or one of the two above."""
    files = {**RANKER_FILES, "weights.bin": bytes([seed])}
    return write_directory(root, mix_draft(name=name, version=version), files)


def load_reference(bundle: Bundle, store: TokenStore | None = None) -> Ranker:
    """Loads such a bundle."""
    seed = bundle.file("weights.bin").read_bytes()[0]
    if seed == UNLOADABLE:
        raise BackendError("its graph has an operator that this device lacks")
    backend = ReferenceBackend(ReferenceModel(seed))
    if seed == WITHOUT_ANSWER:
        backend.model.head[:] = np.nan
    tokens = None if store is None else paired_tokens(store, bundle.manifest)
    return Ranker(
        bundle.manifest,
        PromptEncoder.from_bundle(bundle),
        Replicas({0: Engine(backend)}),
        KeyedItems(bundle.manifest, tokens, None, 2**16),
    )


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> Ranker:
    return load_reference(bundle, store)


REFERENCE_RANKER: Kind = replace(RANKER, load=_load)
