"""`TrieSearches`: the part of a `Generator` that finds items by the sequences of a trie."""

import asyncio
import time
from concurrent.futures import Future
from functools import partial
from zlib import crc32

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import SearchResult, check_search
from rankport.protos.types import Prefix, Truncation
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.kinds.generator.engines.loading import WritingEngine
from rankport.runtime.kinds.generator.results import search_result
from rankport.runtime.kinds.generator.scoring import TextScores
from rankport.runtime.kinds.generator.tries.trie import TokenTrie
from rankport.runtime.kinds.generator.tries.tries import Tries, TrieSearch, check_fits
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.scheduling.futures import converted, result_within
from rankport.runtime.tokens import TokenRun


class TrieSearches(TextScores):
    """Base of what writes: searches over tries."""

    def __init__(
        self, manifest: Manifest, prompt: PromptEncoder, engines: Replicas[WritingEngine], tries: Tries
    ) -> None:
        """Takes the engines over."""
        super().__init__(manifest, prompt, engines)
        self._tries = tries

    def search(
        self,
        prompt: Prefix,
        trie: TokenTrie | str,
        timeout_s: float | None = None,
        *,
        beams: int = 32,
        top_k: int = 10,
        truncation: Truncation = "error",
    ) -> SearchResult:
        """Finds the items of a trie whose sequences are likeliest behind a prompt, by beams of that width.

        `trie` is one, or the name of one below `EngineConfig.trie_root`.

        Raises:
            InvalidRequest: the prompt is malformed or empty, `beams` or `top_k` is out of range, or the trie is made
                for more tokens than the model has.
            NotFound: there is no trie of that name.
            StoreError: it cannot be read.
            LimitExceeded: the prompt is too long and `truncation` is "error", or the sequences are.
            Overloaded, DeadlineExceeded, BackendError, Unavailable: as `generate`.
        """
        timeout_s = checked_timeout_s(timeout_s)
        future = self.submit_search(prompt, trie, timeout_s, beams=beams, top_k=top_k, truncation=truncation)
        return result_within(future, timeout_s)

    def submit_search(
        self,
        prompt: Prefix,
        trie: TokenTrie | str,
        timeout_s: float | None = None,
        *,
        beams: int = 32,
        top_k: int = 10,
        truncation: Truncation = "error",
    ) -> "Future[SearchResult]":
        """Searches as `search`, at once with a future. Cancelling it ends the search before its next pass."""
        timeout_s = checked_timeout_s(timeout_s)
        check_search(beams, top_k)
        search = self._fitting(trie, beams, top_k)
        run, tokenize_s = self._encoded(prompt, truncation)
        future = self._engines.submit(
            lambda engine: engine.search(run, search, timeout_s, spent_s=tokenize_s),
            len(run.ids) + beams * search.trie.levels,
            lambda: crc32(run.ids.tobytes()),
        )
        return converted(future, partial(search_result, tokenize_s))

    async def asearch(
        self,
        prompt: Prefix,
        trie: TokenTrie | str,
        timeout_s: float | None = None,
        *,
        beams: int = 32,
        top_k: int = 10,
        truncation: Truncation = "error",
    ) -> SearchResult:
        """Searches as `search`, for a loop; cancelling the task ends the search."""
        return await asyncio.wrap_future(
            self.submit_search(prompt, trie, timeout_s, beams=beams, top_k=top_k, truncation=truncation)
        )

    def _fitting(self, trie: TokenTrie | str, beams: int, top_k: int) -> TrieSearch:
        """Finds a trie, and checks that its sequences may be written."""
        name = None if isinstance(trie, TokenTrie) else trie
        opened = trie if isinstance(trie, TokenTrie) else self._tries.named(trie)
        check_fits(opened, self._manifest)
        return TrieSearch(opened, beams, top_k, name)

    def _encoded(self, prompt: Prefix, truncation: Truncation) -> tuple[TokenRun, float]:
        """Gives the tokens of a prompt, and the seconds that they took."""
        self._engines.check_process()
        begun_s = time.perf_counter()
        run = self._prompt.encode_prefix(prompt, truncation).run
        if not len(run.ids):
            raise InvalidRequest("prefix has no tokens: a text begins behind at least one")
        return run, time.perf_counter() - begun_s
