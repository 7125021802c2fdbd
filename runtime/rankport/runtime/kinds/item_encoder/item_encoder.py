"""`ItemEncoder`: texts to embedding tokens, in this process.

Owns the way from texts or ids to arrays. Token runs come from `prompt.encoder`, batches and the queue are
`text_engine`'s.
"""

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import BackendError, InvalidRequest
from rankport.protos.types import Side, Truncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.kinds.item_encoder.rules import RULES
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.text_engine import TextRows
from rankport.runtime.kinds.text_engines import TextModel, TextsEngine, text_engines
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.scheduling.futures import converted, resolved, result_within

Text = str | Sequence[int]


class ItemEncoder(TextModel):
    """A loaded item encoder bundle. Any thread may call it; a context manager."""

    capabilities: frozenset[Capability] = frozenset({"encodes"})

    def __init__(self, manifest: Manifest, prompt: PromptEncoder, engines: Replicas[TextsEngine]) -> None:
        """Makes an encoder of parts; it closes the engines."""
        assert manifest.embedding is not None
        super().__init__(manifest, engines)
        self._embedding = manifest.embedding
        self._prompt = prompt

    @classmethod
    def load(cls, bundle: str | os.PathLike[str] | Bundle, *, config: EngineConfig = DEFAULTS) -> Self:
        """Loads an item encoder bundle.

        Raises:
            BundleError: the bundle is not what it says.
            InvalidRequest: it is no item encoder, or has no graph for the device.
            BackendError: there is no such device, or what drives it is not installed.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, RULES)
        manifest = opened.manifest
        check_manifest(manifest, RULES)  # of a bundle that was opened as one of any kind
        prompt = PromptEncoder.from_bundle(opened)
        return cls(manifest, prompt, text_engines(opened, "encode", config))

    @property
    def fingerprint(self) -> str:
        """Hash of everything that changes an output: the namespace of this encoder's tokens in a store."""
        return self._manifest.fingerprint

    def encode(
        self,
        texts: Iterable[Text] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> NDArray[np.floating]:
        """Encodes texts, or token ids, as embedding tokens in their order. [texts, k, hidden] float16 or float32

        Raises:
            InvalidRequest: a text is malformed; the message has its index.
            LimitExceeded: a text is too long and `truncation` is "error".
            Overloaded: the queue is full.
            DeadlineExceeded: `timeout_s` seconds passed.
            BackendError: a pass over these texts failed, or gave values that are not finite.
            Unavailable: the encoder is closed.
        """
        timeout_s = checked_timeout_s(timeout_s)
        return result_within(self.submit(texts, timeout_s, truncation=truncation), timeout_s)

    def submit(
        self,
        texts: Iterable[Text] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> "Future[NDArray[np.floating]]":
        """Encodes as `encode`, at once with a future. Cancelling it drops what is not computed yet.

        Tokenizes before it returns. Raises what is known by then: `InvalidRequest`, `LimitExceeded`,
        `Overloaded`, `Unavailable`; the future raises the rest.
        """
        timeout_s = checked_timeout_s(timeout_s)
        begun_s = time.perf_counter()
        runs = self._prompt.encode_items(ItemColumns.of(texts, "texts"), truncation).runs
        if not len(runs):
            shape = (0, self._embedding.tokens, self._embedding.hidden_size)
            return resolved(np.empty(shape, np.dtype(self._embedding.dtype)))
        spent_s = time.perf_counter() - begun_s
        future = self._engines.submit(
            lambda engine: engine.submit(runs, timeout_s, spent_s=spent_s), len(runs.ids)
        )
        return converted(future, _tokens)

    def submit_texts(
        self,
        texts: Iterable[Text] | ItemColumns,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        side: Side | None = None,
    ) -> "Future[NDArray[np.floating]]":
        """Encodes as `submit`. Raises InvalidRequest for the `side` of queries, unless it reads them as items."""
        if side == "query" and self._manifest.queries is None:
            raise InvalidRequest(
                f"side is {side!r}, and item encoder {self._manifest.name!r} reads items alone: ask for no side, or "
                "export --kind two-tower"
            )
        return self.submit(texts, timeout_s, truncation=truncation)

    def count_tokens(self, texts: Iterable[Text] | ItemColumns, *, truncation: Truncation = "error") -> int:
        """Counts the tokens that it reads of texts. Tokenizes them; raises as `submit`."""
        return len(self._prompt.encode_items(ItemColumns.of(texts, "texts"), truncation).runs.ids)


def _tokens(answer: TextRows) -> NDArray[np.floating]:
    if not np.isfinite(answer.rows).all():
        raise BackendError("encode gave values that are not finite: check the texts and the checkpoint")
    return answer.rows
