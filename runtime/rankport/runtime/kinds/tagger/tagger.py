"""`Tagger`: texts or words to spans, in this process.

Owns the way from texts to spans as columns. Tokens and windows are `reading`'s, labels to spans `decoder`'s, batches
and the queue `text_engine`'s.
"""

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Self, get_args

import numpy as np

from rankport.protos.arguments import check_choice, checked_timeout_s
from rankport.protos.tagging import TagResult, TagTexts, TagTruncation, checked_stride
from rankport.protos.types import Usage
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.tagger.answer import Answered, texts_with
from rankport.runtime.kinds.tagger.decoder import Decoder
from rankport.runtime.kinds.tagger.reading import ReadTexts, TextReader
from rankport.runtime.kinds.tagger.rules import ROLE, RULES
from rankport.runtime.kinds.text_engine import TextRows
from rankport.runtime.kinds.text_engines import TextModel, TextsEngine, text_engines
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.scheduling.futures import converted, resolved, result_within

_TRUNCATIONS = get_args(TagTruncation)


class Tagger(TextModel):
    """A loaded tagger bundle. Any thread may call it; a context manager."""

    capabilities: frozenset[Capability] = frozenset({"tags"})

    def __init__(
        self, manifest: Manifest, reader: TextReader, decoder: Decoder, engines: Replicas[TextsEngine]
    ) -> None:
        """Makes a tagger of parts; it closes the engines."""
        super().__init__(manifest, engines)
        self._reader = reader
        self._decoder = decoder

    @classmethod
    def load(cls, bundle: str | os.PathLike[str] | Bundle, *, config: EngineConfig = DEFAULTS) -> Self:
        """Loads a tagger bundle.

        Raises:
            BundleError: the bundle is not what it says.
            InvalidRequest: it is no tagger, or has no graph for the device.
            BackendError: there is no such device, or what drives it is not installed.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, RULES)
        manifest = opened.manifest
        check_manifest(manifest, RULES)  # of a bundle that was opened as one of any kind
        assert manifest.tokenizer is not None
        reader = TextReader(manifest, Tokenizer.from_file(opened.file(manifest.tokenizer)))
        decoder = Decoder.from_bundle(opened)
        return cls(manifest, reader, decoder, text_engines(opened, ROLE, config, row_of="token"))

    def tag(
        self,
        texts: Iterable[str | Sequence[str]] | TagTexts,
        timeout_s: float | None = None,
        *,
        truncation: TagTruncation = "error",
        stride: int | None = None,
    ) -> TagResult:
        """Finds the spans of texts, or of texts as lists of words; no texts give an empty result.

        Of words it gives their tags too. With truncation "windows" a text longer than the model reads is read in
        windows of which neighbours share at least `stride` tokens, by default a quarter; each word is read where it
        has most context. A text that was cut or read in windows says so in its status or message.

        Raises:
            InvalidRequest: a text is malformed, half of a surrogate pair say; the message has its index.
            LimitExceeded: a text is too long and `truncation` is "error".
            Overloaded: the queue is full.
            DeadlineExceeded: `timeout_s` seconds passed.
            BackendError: a pass over these texts failed.
            Unavailable: the tagger is closed.
        """
        timeout_s = checked_timeout_s(timeout_s)
        return result_within(self.submit(texts, timeout_s, truncation=truncation, stride=stride), timeout_s)

    def submit(
        self,
        texts: Iterable[str | Sequence[str]] | TagTexts,
        timeout_s: float | None = None,
        *,
        truncation: TagTruncation = "error",
        stride: int | None = None,
    ) -> "Future[TagResult]":
        """Tags as `tag`, at once with a future. Cancelling it drops what is not computed yet.

        Tokenizes before it returns. Raises what is known by then: `InvalidRequest`, `LimitExceeded`, `Overloaded`,
        `Unavailable`; the future raises the rest.
        """
        timeout_s = checked_timeout_s(timeout_s)
        check_choice("truncation", truncation, _TRUNCATIONS)
        begun_s = time.perf_counter()
        given = TagTexts.of(texts)
        read = self._reader.read(given, truncation, checked_stride(stride))
        spent_s = time.perf_counter() - begun_s
        answer = partial(self._answer, given, read, spent_s)
        if not len(read.runs):
            return resolved(answer(TextRows(np.empty((0, len(self._decoder.scheme.names))), 0.0, 0.0)))
        future = self._engines.submit(
            lambda engine: engine.submit(read.runs, timeout_s, spent_s=spent_s), len(read.runs.ids)
        )
        return converted(future, answer)

    def _answer(self, texts: TagTexts, read: ReadTexts, tokenize_s: float, answer: TextRows) -> TagResult:
        rows = answer.rows[read.rows]
        failed = ~np.isfinite(rows).all(axis=1)
        if failed.any():
            rows = np.where(failed[:, None], 0, rows)
        decoded = self._decoder.decode(rows, read.units.offsets)
        usage = Usage(0, 0, len(read.runs.ids), tokenize_s, answer.queue_s, answer.compute_s)
        answered = Answered(texts, read, decoded, texts_with(failed, read.units))
        return answered.result(self._decoder.scheme, usage, self._manifest.fingerprint)
