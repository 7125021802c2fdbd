"""`LocalWriting`: the engine of a bundle that writes, in this process: makes orders of what it is asked."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from rankport.protos.errors import DeadlineExceeded, InvalidRequest
from rankport.protos.generation import Sampling
from rankport.protos.priorities import Priority
from rankport.runtime.backends.choice import load_decode_backend, load_seq2seq_backend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.config import EngineConfig, in_one_instance
from rankport.runtime.kinds.generator.decoder.beams import Beams
from rankport.runtime.kinds.generator.decoder.engine import GenerationEngine
from rankport.runtime.kinds.generator.decoder.found_items import FoundItems, found_items
from rankport.runtime.kinds.generator.decoder.likelihoods import Likelihoods
from rankport.runtime.kinds.generator.engines.orders import Orders
from rankport.runtime.kinds.generator.seq2seq.engine import Seq2SeqEngine
from rankport.runtime.kinds.generator.texts.text import OnPart, TextOrder, Written
from rankport.runtime.kinds.generator.tries.tries import TrieSearch
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.scheduling.chained import begun
from rankport.runtime.scheduling.counts import CacheStats, EngineCounts
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.scheduling.queue.queue_limit import Watcher
from rankport.runtime.tokens import TokenRun, TokenRuns

_MOST_LOGITS = 1 << 26  # of a pass over items to be scored: 256 MiB


class LocalWriting:
    """Writes, searches and scores behind prompts of tokens. Thread-safe; owns and closes the engine."""

    def __init__(
        self, engine: GenerationEngine | Seq2SeqEngine, manifest: Manifest, tokenizer: Tokenizer | None
    ) -> None:
        """Takes the engine of a bundle over."""
        self._engine, self._manifest = engine, manifest
        self._orders = Orders(manifest, tokenizer)
        self._compiler = ThreadPoolExecutor(1, "rankport-grammars")  # or whoever asks would wait

    @classmethod
    def load(
        cls, bundle: Bundle, config: EngineConfig, tokenizer: Tokenizer | None, gpu: int
    ) -> "LocalWriting":
        """Loads the engine of a bundle, by its kind, on a CPU or a GPU. Raises as `load_decode_backend`."""
        config = own_config(config, bundle)
        generation = bundle.manifest.generation
        assert generation is not None, "a rule of both kinds"
        engine: GenerationEngine | Seq2SeqEngine
        if generation.decoding is None:
            scored_tokens = max(1, _MOST_LOGITS // bundle.manifest.shape.vocab_size)
            engine = GenerationEngine(
                load_decode_backend(bundle, config, gpu=gpu), config, scored_tokens=scored_tokens
            )
        else:
            engine = Seq2SeqEngine(load_seq2seq_backend(bundle, config), generation.decoding.start_id, config)
        return cls(engine, bundle.manifest, tokenizer)

    def write(
        self,
        prompt: TokenRun,
        sampling: Sampling,
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
        on_part: OnPart | None = None,
    ) -> "Future[Written]":
        """Queues a text behind a prompt, `spent_s` of its `timeout_s` gone; `on_part` is told its parts.

        Cancelling the future ends the text before its next token. Raises as `Orders.order` and `GenerationEngine`; of
        a text whose grammar is to be compiled first the future does.
        """
        if not self._orders.takes_long(sampling):
            return self._begin(prompt, sampling, timeout_s, spent_s, on_part)
        asked_s = time.monotonic() - spent_s

        def begin() -> "Future[Written]":
            waited_s = time.monotonic() - asked_s
            # Or others would wait for a grammar that nobody needs.
            if timeout_s is not None and waited_s >= timeout_s:
                raise DeadlineExceeded(
                    f"timeout_s={timeout_s} ran out before the grammar of the text could be compiled: allow more time"
                )
            return self._begin(prompt, sampling, timeout_s, waited_s, on_part)

        return begun(begin, self._compiler)

    def _begin(
        self,
        prompt: TokenRun,
        sampling: Sampling,
        timeout_s: float | None,
        spent_s: float,
        on_part: OnPart | None,
    ) -> "Future[Written]":
        order = self._orders.order(sampling, prompt.ids.tolist(), on_part)
        if isinstance(self._engine, Seq2SeqEngine):
            return self._engine.submit(prompt, order, timeout_s, spent_s=spent_s)
        assert isinstance(order, TextOrder), "beams are refused before"
        return self._engine.submit(prompt, order, timeout_s, spent_s=spent_s)

    def search(
        self, prompt: TokenRun, search: TrieSearch, timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[FoundItems]":
        """Queues a search behind a prompt. Raises `InvalidRequest` for a bundle that searches no trie."""
        engine = self._generating("searches no trie: generate with beams, or give another")
        beams = Beams(search.trie, search.beams)
        future = engine.search(prompt, beams, timeout_s, spent_s=spent_s)
        return converted(future, partial(found_items, search.trie, search.top_k))

    def score(
        self,
        prompt: TokenRun,
        items: TokenRuns,
        ends: Sequence[int],
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
    ) -> "Future[Likelihoods]":
        """Queues items to be scored behind a prompt. Raises `InvalidRequest` for a bundle that scores none."""
        engine = self._generating("scores no items: generate with it, or give another")
        return engine.score(prompt, items, ends, timeout_s, spent_s=spent_s)

    @property
    def alive(self) -> bool:
        """False once it is closed, or the engine has stopped."""
        return self._engine.alive

    def counts(self) -> EngineCounts:
        """Returns a snapshot of the engine's counters."""
        return self._engine.counts()

    def cache_stats(self) -> CacheStats | None:
        """Returns a snapshot of the prompt cache's counters; None of an encoder-decoder, which keeps none."""
        return self._engine.cache_stats() if isinstance(self._engine, GenerationEngine) else None

    def check_room(self, timeout_s: float | None, priority: Priority) -> None:
        """Raises `Overloaded` where the engine's queue would refuse any request like those of late."""
        self._engine.check_room(timeout_s, priority)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Has the numbers of the engine's queue told; see `QueueLimit.watch`."""
        return self._engine.watch(watcher)

    def stop(self, grace_s: float = 0.0) -> None:
        """Begins to close, and waits for nothing."""
        self._stop_compiling()
        self._engine.stop(grace_s)

    def close(self, grace_s: float = 0.0) -> None:
        """Lets accepted requests finish for `grace_s` seconds, fails the rest, frees the device."""
        self._stop_compiling()
        self._engine.close(grace_s)

    def _stop_compiling(self) -> None:
        self._compiler.shutdown(wait=False, cancel_futures=True)
        self._orders.close()

    def _generating(self, refusal: str) -> GenerationEngine:
        if isinstance(self._engine, Seq2SeqEngine):
            raise InvalidRequest(f"bundle {self._manifest.name!r} of kind {self._manifest.kind} {refusal}")
        return self._engine


def own_config(config: EngineConfig, bundle: Bundle) -> EngineConfig:
    """Gives the settings that hold for a bundle: an encoder-decoder has one instance."""
    generation = bundle.manifest.generation
    if generation is None or generation.decoding is None:
        return config
    return in_one_instance(
        config, bundle.manifest.name, "all texts that an encoder-decoder writes share its passes"
    )
