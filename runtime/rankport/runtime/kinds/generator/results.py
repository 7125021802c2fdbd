"""Results of an engine as callers have them: a text, its parts as they come, and what a search found."""

from collections.abc import Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import numpy as np

from rankport.protos.generation import GeneratedPart, GenerateResult, GenerateUsage, Sampling, SearchResult
from rankport.protos.processes.own_process import OwnProcess, StaysInProcess
from rankport.runtime.kinds.generator.decoder.found_items import FoundItems
from rankport.runtime.kinds.generator.texts.text import Written


class TextStream(StaysInProcess):
    """Parts of a text as they come; closing it, or leaving its `with`, ends the text."""

    def __init__(self, parts: "SimpleQueue[GeneratedPart | None]", future: "Future[GenerateResult]") -> None:
        self._parts, self._future = parts, future
        self._process = OwnProcess()

    def __iter__(self) -> Iterator[GeneratedPart]:
        """Yields the parts; raises what ended the text before its time, and `Unavailable` in a forked child."""
        parts = iter(self._parts.get, None)
        yield from self._process.steps(parts, "the text was begun", "begin it")
        self._parts.put(None)  # for whoever iterates once more
        self.result()

    def result(self) -> GenerateResult:
        """Waits for the whole text; raises as `Generator.generate`."""
        return self._future.result()

    def close(self) -> None:
        """Ends the text, unless it is complete."""
        self._future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def text_result(tokenize_s: float, sampling: Sampling, written: Written) -> GenerateResult:
    """Makes the result of a text."""
    return GenerateResult(
        text=written.text,
        token_ids=written.token_ids,
        finish_reason=written.finish_reason,
        usage=GenerateUsage(
            prompt_tokens_cached=written.prompt_tokens_cached,
            prompt_tokens_computed=written.prompt_tokens_computed,
            generated_tokens=written.steps,
            tokenize_s=tokenize_s,
            queue_s=written.queue_s,
            compute_s=written.compute_s,
        ),
        logprobs=np.array(written.logprobs, np.float32) if sampling.logprobs else None,
        top_logprobs=written.top_logprobs,
        beams=written.beams,
    )


def search_result(tokenize_s: float, found: FoundItems) -> SearchResult:
    """Makes the result of a search."""
    usage = GenerateUsage(
        prompt_tokens_cached=found.prompt_tokens_cached,
        prompt_tokens_computed=found.prompt_tokens_computed,
        generated_tokens=found.tokens.shape[1],
        tokenize_s=tokenize_s,
        queue_s=found.queue_s,
        compute_s=found.compute_s,
    )
    return SearchResult(found.keys, found.tokens, found.scores, usage)
