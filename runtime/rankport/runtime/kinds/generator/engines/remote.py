"""`RemoteWriting`: a `LocalWriting` in another process. Owns how its requests and answers are written."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, fields
from functools import partial
from typing import Any

import numpy as np

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import GeneratedBeam, GeneratedPart, Sampling, TokenLogprob
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.decoder.found_items import FoundItems
from rankport.runtime.kinds.generator.decoder.likelihoods import Likelihoods
from rankport.runtime.kinds.generator.engines.orders import most_tokens
from rankport.runtime.kinds.generator.texts.text import OnPart, Written
from rankport.runtime.kinds.generator.tries.tries import TrieSearch
from rankport.runtime.kinds.remote.messages import run_columns, runs_columns
from rankport.runtime.kinds.remote.remote_engine import RemoteEngine
from rankport.runtime.links.columns import Columns
from rankport.runtime.scheduling.counts import CacheStats
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.tokens import TokenRun, TokenRuns


class RemoteWriting(RemoteEngine):
    """Sends prompts of tokens with what is wanted, and reads texts, their parts as they come, items and scores."""

    def __init__(self, bundle: Bundle, config: EngineConfig, gpu: int) -> None:
        """Has the other process load the graphs. Raises as their load does there."""
        super().__init__(bundle, config, gpu)
        self._manifest = bundle.manifest

    def write(
        self,
        prompt: TokenRun,
        sampling: Sampling,
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
        on_part: OnPart | None = None,
    ) -> "Future[Written]":
        """Queues a text as `LocalWriting.write`; the future raises what that does too."""
        sent = self._submit(
            run_columns("prompt", prompt),
            len(prompt.ids) + most_tokens(sampling, self._manifest),
            timeout_s,
            spent_s,
            None if on_part is None else partial(_tell, on_part),
            ask="write",
            sampling=_sampling_values(sampling),
            parts=on_part is not None,
        )
        return converted(sent, written_of)

    def search(
        self, prompt: TokenRun, search: TrieSearch, timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[FoundItems]":
        """Queues a search as `LocalWriting.search`, of a trie by its name, which is that of the other process."""
        if search.name is None:
            raise InvalidRequest(
                "the engine is in another process, and opens tries itself: give the name of one"
            )
        sent = self._submit(
            run_columns("prompt", prompt),
            len(prompt.ids) + search.beams * search.trie.levels,
            timeout_s,
            spent_s,
            ask="search",
            trie=search.name,
            beams=int(search.beams),
            top_k=int(search.top_k),
        )
        return converted(sent, items_of)

    def score(
        self,
        prompt: TokenRun,
        items: TokenRuns,
        ends: Sequence[int],
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
    ) -> "Future[Likelihoods]":
        """Queues items to be scored as `LocalWriting.score`; the future raises what that does too."""
        arrays = run_columns("prompt", prompt) | runs_columns("items", items)
        arrays["ends"] = np.array(ends, np.int64)
        tokens = len(prompt.ids) + len(items.ids) + len(items)
        return converted(self._submit(arrays, tokens, timeout_s, spent_s, ask="score"), likelihoods_of)

    def cache_stats(self) -> CacheStats | None:
        """Returns the counters of the prompt cache that the engine told last; None where it keeps none."""
        state = self._connection.state
        return None if state is None else state.cache


def read_sampling(values: Mapping[str, Any]) -> Sampling:
    """Reads how a text is to be written."""
    lists = {name: tuple(values[name]) for name in ("stop", "stop_ids", "logit_bias")}
    return Sampling(**{**values, **lists})


def part_columns(part: GeneratedPart) -> Columns:
    """Writes a part of a text."""
    return Columns(asdict(part))


def written_columns(written: Written) -> Columns:
    """Writes a text."""
    return Columns(asdict(written))


def written_of(columns: Columns) -> Written:
    """Reads a text."""
    values = columns.values
    beams = tuple(
        GeneratedBeam(**{**beam, "token_ids": tuple(beam["token_ids"])}) for beam in values["beams"]
    )
    lists = {name: tuple(values[name]) for name in ("token_ids", "logprobs")}
    top = tuple(_top_of(told) for told in values["top_logprobs"])
    return Written(**{**values, **lists, "top_logprobs": top, "beams": beams})


def items_columns(found: FoundItems) -> Columns:
    """Writes what a search found."""
    return _split(found, ("tokens", "scores"))


def items_of(columns: Columns) -> FoundItems:
    """Reads what a search found."""
    values = {**columns.values, **columns.arrays}
    return FoundItems(**{**values, "keys": tuple(values["keys"])})


def likelihoods_columns(scored: Likelihoods) -> Columns:
    """Writes scores."""
    return _split(scored, ("scores", "failed"))


def likelihoods_of(columns: Columns) -> Likelihoods:
    """Reads scores."""
    return Likelihoods(**columns.arrays, **columns.values)  # type: ignore[arg-type]


def _split(answer: Likelihoods | FoundItems, arrays: Sequence[str]) -> Columns:
    values = {field.name: getattr(answer, field.name) for field in fields(answer)}
    return Columns(values, {name: values.pop(name) for name in arrays})


def _tell(on_part: Callable[[GeneratedPart], None], columns: Columns) -> None:
    values = columns.values
    on_part(GeneratedPart(**{**values, "top_logprobs": _top_of(values["top_logprobs"])}))


def _top_of(told: Sequence[Mapping[str, Any]]) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(**values) for values in told)


def _sampling_values(sampling: Sampling) -> dict[str, Any]:
    """Writes how a text is to be written; numbers of numpy as Python's."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in asdict(sampling).items()
    }
