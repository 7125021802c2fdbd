"""`TextClassifier`: labels of texts, or of pairs read in one sequence, in this process.

Owns the way from texts or ids to probabilities. Runs come from `encoder`, batches and the queue are `text_engine`'s.
"""

import os
import time
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from typing import Self

import numpy as np

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.classes import ClassifyResult, ClassText, ClassTexts
from rankport.protos.types import Prefix, Truncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.kinds.class_answer import ClassForm
from rankport.runtime.kinds.classifier.encoder import ClassEncoder
from rankport.runtime.kinds.classifier.rules import ROLE, RULES
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.score_answer import ScoredItems
from rankport.runtime.kinds.text_engine import TextRows
from rankport.runtime.kinds.text_engines import TextModel, TextsEngine, text_engines, usage_of
from rankport.runtime.scheduling.futures import converted, resolved


class TextClassifier(TextModel):
    """A loaded classifier bundle. Any thread may call it; a context manager."""

    capabilities: frozenset[Capability] = frozenset({"classifies"})

    def __init__(self, manifest: Manifest, encoder: ClassEncoder, engines: Replicas[TextsEngine]) -> None:
        """Makes a classifier of parts; it closes the engines."""
        super().__init__(manifest, engines)
        self._form = ClassForm.of(manifest)
        self._encoder = encoder

    @classmethod
    def load(cls, bundle: str | os.PathLike[str] | Bundle, *, config: EngineConfig = DEFAULTS) -> Self:
        """Loads a classifier bundle.

        Raises:
            BundleError: the bundle is not what it says.
            InvalidRequest: it is no classifier, or has no graph for the device.
            BackendError: there is no such device, or what drives it is not installed.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, RULES)
        check_manifest(opened.manifest, RULES)  # of a bundle that was opened as one of any kind
        encoder = ClassEncoder.from_bundle(opened)
        return cls(opened.manifest, encoder, text_engines(opened, ROLE, config))

    def submit_classify(
        self,
        texts: Iterable[ClassText] | ClassTexts,
        prefix: Prefix | None = None,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> "Future[ClassifyResult]":
        """Classifies as `Classifier.classify`, at once with a future. Cancelling it drops what is not computed yet.

        Tokenizes before it returns. Raises what is known by then: `InvalidRequest`, `LimitExceeded`, `Overloaded`,
        `Unavailable`; the future raises the rest.
        """
        timeout_s = checked_timeout_s(timeout_s)
        begun_s = time.perf_counter()
        request = self._encoder.encode(ClassTexts.of(texts), prefix, truncation)
        tokenize_s = time.perf_counter() - begun_s
        runs = request.items.runs
        if not len(runs):
            return resolved(self._answer(request, tokenize_s, TextRows(self._form.nothing(), 0.0, 0.0)))
        future = self._engines.submit(
            lambda engine: engine.submit(runs, timeout_s, spent_s=tokenize_s), len(runs.ids)
        )
        return converted(future, partial(self._answer, request, tokenize_s))

    def _answer(self, request: ScoredItems, tokenize_s: float, answer: TextRows) -> ClassifyResult:
        usage = usage_of(request.items.runs, tokenize_s, answer)
        return self._form.answer(request, answer.rows.astype(np.float32, copy=False), usage)
