"""`Generator`: a prompt to text, in this process.

Owns the way from prompt and sampling to text. Tokens are `prompt`'s, passes `engine`'s, the next token `sampler`'s.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from functools import partial
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any, Self
from zlib import crc32

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.generation import GeneratedPart, GenerateResult, Sampling
from rankport.protos.text_stream import AsyncTextStream
from rankport.protos.types import ModelDescription, Prefix, Truncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.description import describe
from rankport.runtime.bundle.manifest_rules import KindRules, check_manifest
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.capabilities import Capability, ModelCounts
from rankport.runtime.kinds.generator.engines.loading import WritingEngine, load_engine
from rankport.runtime.kinds.generator.engines.orders import most_tokens
from rankport.runtime.kinds.generator.results import TextStream, text_result
from rankport.runtime.kinds.generator.rules import RULES as OWN_RULES
from rankport.runtime.kinds.generator.scoring import SCORES
from rankport.runtime.kinds.generator.seq2seq import rules as seq2seq
from rankport.runtime.kinds.generator.texts.text import OnPart
from rankport.runtime.kinds.generator.trie_searches import TrieSearches
from rankport.runtime.kinds.generator.tries.tries import Tries
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.scheduling.counts import CacheStats
from rankport.runtime.scheduling.futures import converted, result_within

GREEDY = Sampling()
RULES: KindRules = MappingProxyType({**OWN_RULES, **seq2seq.RULES})
_GENERATES: frozenset[Capability] = frozenset({"generates"})


class Generator(TrieSearches):
    """A loaded bundle that writes text. Any thread may call it; a context manager.

    >>> with Generator.load("explainer.bundle") as generator:
    ...     generator.generate("Why does this job fit?", Sampling(max_tokens=60)).text
    """

    @classmethod
    def load(cls, bundle: str | os.PathLike[str] | Bundle, *, config: EngineConfig = DEFAULTS) -> Self:
        """Loads a bundle of a generator, or of an encoder-decoder that writes.

        Raises:
            BundleError: the bundle is not what it says.
            InvalidRequest: it is no generator, or has no graph for the device.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, RULES)
        manifest = opened.manifest
        check_manifest(manifest, RULES)  # of a bundle that was opened as one of any kind
        name = manifest.tokenizer
        tokenizer = None if name is None else Tokenizer.from_file(opened.file(name))
        prompt = PromptEncoder(manifest, tokenizer)
        tries = Tries(config.trie_root)
        with ExitStack() as owned:
            engines: dict[int, WritingEngine] = {}
            for gpu in config.device_ids:
                engines[gpu] = load_engine(opened, config, tokenizer, gpu)
                owned.callback(engines[gpu].close)
            owned.pop_all()
        return cls(manifest, prompt, Replicas(engines), tries)

    def generate(
        self,
        prompt: Prefix,
        sampling: Sampling = GREEDY,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> GenerateResult:
        """Writes a text behind a prompt: a str, the prompt's fields by name, or token ids.

        Raises:
            InvalidRequest: the prompt is malformed or empty, or `sampling` asks for what the bundle has not.
            LimitExceeded: the prompt is too long and `truncation` is "error", or `max_tokens` are too many.
            Overloaded: the queue is full.
            DeadlineExceeded: `timeout_s` seconds passed.
            BackendError: a pass over this text failed.
            Unavailable: the generator is closed.
        """
        timeout_s = checked_timeout_s(timeout_s)
        return result_within(
            self.submit_generate(prompt, sampling, timeout_s, truncation=truncation), timeout_s
        )

    def stream(
        self,
        prompt: Prefix,
        sampling: Sampling = GREEDY,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> "TextStream":
        """Writes a text as `generate`, and gives its parts as they come; raises at once what is known by then."""
        parts: SimpleQueue[GeneratedPart | None] = SimpleQueue()
        future = self.submit_generate(prompt, sampling, timeout_s, truncation=truncation, on_part=parts.put)
        future.add_done_callback(lambda _: parts.put(None))
        return TextStream(parts, future)

    def submit_generate(
        self,
        prompt: Prefix,
        sampling: Sampling = GREEDY,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        on_part: OnPart | None = None,
    ) -> "Future[GenerateResult]":
        """Writes as `generate`, at once with a future. Cancelling it ends the text before its next token.

        `on_part` is called with each part by the engine's thread: it must return at once. Tokenizes before it returns.
        Raises what is known by then: `InvalidRequest`, `LimitExceeded`, `Overloaded`, `Unavailable`; the future raises
        the rest.
        """
        timeout_s = checked_timeout_s(timeout_s)
        run, tokenize_s = self._encoded(prompt, truncation)
        future = self._engines.submit(
            lambda engine: engine.write(run, sampling, timeout_s, spent_s=tokenize_s, on_part=on_part),
            len(run.ids) + most_tokens(sampling, self._manifest),
            lambda: crc32(run.ids.tobytes()),
        )
        return converted(future, partial(text_result, tokenize_s, sampling))

    async def agenerate(
        self,
        prompt: Prefix,
        sampling: Sampling = GREEDY,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> GenerateResult:
        """Writes as `generate`, for a loop; cancelling the task ends the text."""
        return await asyncio.wrap_future(
            self.submit_generate(prompt, sampling, timeout_s, truncation=truncation)
        )

    def astream(
        self,
        prompt: Prefix,
        sampling: Sampling = GREEDY,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
    ) -> AsyncTextStream:
        """Gives the parts of a text as `stream`, for a loop; it begins with the first one that is asked for."""
        results: list[GenerateResult] = []
        parts = self._streamed(prompt, sampling, timeout_s, truncation, results)
        return AsyncTextStream(parts, lambda: results[0])

    async def _streamed(
        self,
        prompt: Prefix,
        sampling: Sampling,
        timeout_s: float | None,
        truncation: Truncation,
        results: list[GenerateResult],
    ) -> AsyncGenerator[GeneratedPart, None]:
        """Yields the parts, and puts the whole text to `results`; ending the iteration ends the text."""
        loop, parts = asyncio.get_running_loop(), asyncio.Queue[GeneratedPart | None]()
        put = partial(_put, loop, parts)
        future = self.submit_generate(prompt, sampling, timeout_s, truncation=truncation, on_part=put)
        future.add_done_callback(lambda _: put(None))
        try:
            while (part := await parts.get()) is not None:
                yield part
            results.append(await asyncio.wrap_future(future))  # raises what ended it
        finally:
            future.cancel()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Capabilities: one whose manifest says so answers `Score` too."""
        return _GENERATES if self._manifest.score is None else _GENERATES | SCORES

    @property
    def finds_beams(self) -> bool:
        """True of an encoder-decoder, whose texts beams may find."""
        generation = self._manifest.generation
        return generation is not None and generation.decoding is not None

    def describe(self) -> ModelDescription:
        """Says what the bundle is."""
        return describe(self._manifest)

    def cache_stats(self) -> CacheStats:
        """Returns a snapshot of the prompt cache's counters; an encoder-decoder keeps none, and counts nothing."""
        return CacheStats.total(self._caches())

    def counts(self) -> ModelCounts:
        """Returns a snapshot of its counters."""
        caches = self._caches()
        return ModelCounts(self._engines.counts(), CacheStats.total(caches) if caches else None)

    def _caches(self) -> list[CacheStats]:
        stats = (engine.cache_stats() for engine in self._engines.engines)
        return [cache for cache in stats if cache is not None]


def _put(loop: asyncio.AbstractEventLoop, parts: "asyncio.Queue[Any]", part: GeneratedPart | None) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(parts.put_nowait, part)
