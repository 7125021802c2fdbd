"""`TextClassifier`: labels of texts, or of pairs read in one sequence, in this process.

Owns the way from texts or ids to probabilities. Runs come from `encoder`, batches and the queue are `text_engine`'s.
"""

import os
import time
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.classes import ClassifyResult, ClassText, ClassTexts
from rankport.protos.types import ModelDescription, Prefix, Truncation, Usage
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.description import describe
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.class_answer import ClassForm
from rankport.runtime.kinds.classifier.encoder import ClassEncoder
from rankport.runtime.kinds.classifier.rules import ROLE, RULES
from rankport.runtime.kinds.kind import Capability
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.score_answer import ScoredItems
from rankport.runtime.kinds.text_engine import TextEngine, TextRows
from rankport.runtime.kinds.text_engines import text_engines
from rankport.runtime.scheduling.futures import converted, resolved


class TextClassifier:
    """A loaded classifier bundle. Any thread may call it; a context manager."""

    capabilities: frozenset[Capability] = frozenset({"classifies"})

    def __init__(self, manifest: Manifest, encoder: ClassEncoder, engines: Replicas[TextEngine]) -> None:
        """Makes a classifier of parts; it closes the engines."""
        self._manifest = manifest
        self._form = ClassForm.of(manifest)
        self._encoder = encoder
        self._engines = engines

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

    def describe(self) -> ModelDescription:
        """Says what the bundle is."""
        return describe(self._manifest)

    @property
    def alive(self) -> bool:
        """False once it is closed, its device lost, or stopped on a bug: it answers nothing any more."""
        return self._engines.alive

    def close(self, grace_s: float = 0.0) -> None:
        """Lets accepted requests finish for `grace_s` seconds, fails the rest, frees everything."""
        self._engines.close(grace_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, request: ScoredItems, tokenize_s: float, answer: TextRows) -> ClassifyResult:
        runs = request.items.runs
        firsts = 0 if runs.seconds is None else int(runs.seconds.sum())
        usage = Usage(
            prefix_tokens_cached=0,
            prefix_tokens_computed=firsts,
            item_tokens=len(runs.ids) - firsts,
            tokenize_s=tokenize_s,
            queue_s=answer.queue_s,
            compute_s=answer.compute_s,
        )
        return self._form.answer(request, answer.rows.astype(np.float32, copy=False), usage)
