"""The word bag as the runtime knows it: the rules of its manifest, and a loaded model that encodes."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import ItemColumns
from rankport.protos.types import ModelDescription, Side, Truncation
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.description import describe
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import ManifestRules
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.capabilities import Capability, ModelCounts
from rankport.runtime.kinds.engine_model import EngineModel
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.text_engine import TextEngine
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.store.contract import TokenStore


def _output(manifest: Manifest) -> Iterator[str]:
    embedding = manifest.embedding
    if embedding is None or (embedding.tokens, embedding.pooling) != (1, "mean"):
        yield "embedding: kind word-bag makes one token, the mean"


class WordBag(EngineModel):
    """A loaded bundle. Implements `EncodingModel`."""

    capabilities: frozenset[Capability] = frozenset({"encodes"})

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        self._manifest = bundle.manifest
        self._prompt = PromptEncoder.from_bundle(bundle)
        self._engine = TextEngine(load_text_backend(bundle, "encode", config), config)
        super().__init__(self._engine)

    def submit_texts(
        self,
        texts: Iterable[str | Sequence[int]] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> "Future[NDArray[np.floating]]":
        """Encodes at least one text. [texts, 1, hidden]"""
        runs = self._prompt.encode_items(ItemColumns.of(texts, "texts"), truncation).runs
        return converted(self._engine.submit(runs, timeout_s), lambda answer: answer.rows)

    def counts(self) -> ModelCounts:
        """Counts what the engine did."""
        return ModelCounts({"cpu": self._engine.counts()})

    def describe(self) -> ModelDescription:
        """Describes the bundle."""
        return describe(self._manifest)


def _load(bundle: Bundle, config: EngineConfig, store: TokenStore | None) -> WordBag:
    return WordBag(bundle, config)


WORD_BAG = Kind("word-bag", ManifestRules(frozenset({"encode"}), (_output,)), _load)
