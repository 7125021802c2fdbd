"""Rankers of a sample bundle over the reference backend, and the embedding tokens of their paired encoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rankport.runtime.bundle.manifest import Embedding, ManifestDraft, ModelShape
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.keyed_items import KeyedItems, paired_tokens
from support.bundle_samples import RANKER_FILES, VOCAB_SIZE, ranker_draft, write_directory
from support.reference_backend import HIDDEN, ReferenceBackend

ENCODER = "e" * 64
EMBEDDINGS = np.random.default_rng(3).normal(size=(3, 2, HIDDEN)).astype(np.float16)


def mix_draft(**changes: object) -> ManifestDraft:
    """Drafts a ranker of text, ids and 2 embedding tokens, as wide as the reference backend."""
    shape = ModelShape(hidden_size=HIDDEN, vocab_size=VOCAB_SIZE, layers=ranker_draft().shape.layers)
    embedding = Embedding(tokens=2, hidden_size=HIDDEN, dtype="float16")
    return ranker_draft(**({"shape": shape, "embedding": embedding} | changes))


def text_draft() -> ManifestDraft:
    """Drafts a ranker that takes no embedding tokens."""
    return mix_draft(embedding=None, pairing=None)


@contextmanager
def ranker_of(
    path: Path, draft: ManifestDraft, store: TokenStore | None = None, backend: ReferenceBackend | None = None
) -> Iterator[Ranker]:
    """Opens the ranker of `draft`, with the draft's bundle written below `path`."""
    bundle = open_bundle(write_directory(path / "bundle", draft, RANKER_FILES))
    tokens = None if store is None else paired_tokens(store, bundle.manifest)
    with Ranker(
        bundle.manifest,
        PromptEncoder.from_bundle(bundle),
        Replicas({0: Engine(backend or ReferenceBackend())}),
        KeyedItems(bundle.manifest, tokens),
    ) as ranker:
        yield ranker
