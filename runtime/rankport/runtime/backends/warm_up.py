"""Passes that a backend on a GPU runs before a request: kernels and memory are there then, and what fails is told."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import numpy as np

from rankport.protos.errors import RankportError
from rankport.runtime.backends.contract import (
    DeviceLost,
    MarkedBackend,
    PrefixBackend,
    PrefixBatch,
    PrefixPieces,
    TextBackend,
)
from rankport.runtime.backends.layouts.row_slots import ZEROS
from rankport.runtime.backends.layouts.sets import gathers_rows
from rankport.runtime.backends.set_contract import FeatureRows, History, SetBackend
from rankport.runtime.backends.write_contract import DecodeBackend, SequenceKV
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.sections.sets import IdFeature, SetFeature, Sets
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRun, TokenRuns

BackendT = TypeVar("BackendT", PrefixBackend, TextBackend, SetBackend, MarkedBackend, DecodeBackend)


def warmed_up(
    backend: BackendT,
    bundle: Bundle,
    config: EngineConfig,
    warm_up: Callable[[BackendT, Manifest, EngineConfig], None],
) -> BackendT:
    """Warms up a backend on a GPU; closes it if that fails."""
    if config.device == "cpu":
        return backend
    try:
        warm_up(backend, bundle.manifest, config)
    except BaseException:
        # What closing may find wrong follows from what is raised already.
        with suppress(RankportError, DeviceLost):
            backend.close()
        raise
    return backend


def warm_up_prefixes(backend: PrefixBackend, manifest: Manifest, config: EngineConfig) -> None:
    """Runs the smallest and the largest passes that will come: their kernels and memory are there before a request.

    Raises BackendError: what fails here would fail every request.
    """
    limits = manifest.limits
    prefix = TokenRun(np.zeros(min(limits.max_prefix_tokens, 64), np.int64))
    for length, count in _warm_up_sizes(limits.max_item_tokens, config.max_batch_tokens):
        pieces: PrefixPieces = ()
        if len(prefix.ids):
            pieces = backend.prefill(PrefixBatch.of([()], [prefix], np.zeros(1, np.int64)))
        backend.score(PrefixBatch((pieces,), _zeros(length, count), np.zeros(count, np.int64)))


def warm_up_texts(backend: TextBackend, manifest: Manifest, config: EngineConfig) -> None:
    """Runs the smallest and the largest passes of texts that will come; raises as `warm_up_prefixes`."""
    for length, count in _warm_up_sizes(manifest.max_text_tokens, config.text_batch_tokens):
        backend.compute(_zeros(length, count))


def warm_up_lists(backend: MarkedBackend, manifest: Manifest, config: EngineConfig) -> None:
    """Runs passes as `warm_up_texts`, and one of the longest list that may come; raises as `warm_up_prefixes`."""
    longest = manifest.max_text_tokens
    for length, count in (*_warm_up_sizes(longest, config.text_batch_tokens), (longest, 1)):
        backend.compute(_zeros(length, count))


def warm_up_sets(backend: SetBackend, manifest: Manifest, config: EngineConfig) -> None:
    """Reads the longest history, and ranks most and fewest candidates behind it; raises as `warm_up_prefixes`."""
    sets = manifest.sets
    assert sets is not None
    gathered = gathers_rows(manifest)
    events = _zero_rows(sets, sets.event, sets.max_events, gathered=gathered)
    times = np.zeros(len(events), np.int64)
    past = History.nothing()
    for start in range(0, len(events), config.max_prefill_tokens):
        end = min(start + config.max_prefill_tokens, len(events))
        state = backend.extend(past, events.part(slice(start, end)), times[start:end])
        past = History((*past.state, state), times[:end])
    alone = sets.mask.policy != "set-wise"
    most_together = min(sets.mask.top_k or 0, sets.max_candidates) if alone else sets.max_candidates
    for most, apart in ((sets.max_candidates, True), (most_together, False)):
        for count in (most, 1) if most and (alone or not apart) else ():
            candidates = _zero_rows(sets, sets.candidate, count, gathered=gathered)
            backend.start(past, 0, candidates, None if apart else np.zeros(count, np.int64)).results()


def warm_up_writing(backend: DecodeBackend, manifest: Manifest, config: EngineConfig) -> None:
    """Reads the longest part of a prompt that will come, and writes one text behind it, then two; raises as above.

    Of each a step that tells the likeliest token alone, and one that gives logits; then the passes over items.
    """
    longest = min(manifest.limits.max_prefix_tokens - 1, config.max_prefill_tokens)
    prompt: PrefixPieces = ()
    if longest:
        run = TokenRun(np.zeros(longest, np.int64))
        prompt = backend.prefill(PrefixBatch.of([()], [run], np.zeros(1, np.int64)))
    sequences = list[SequenceKV]()
    for count in (1, 2):
        sequences.append(backend.begin(prompt))
        backend.decode_likeliest(sequences, np.zeros(count, np.int64))
        backend.decode(sequences, np.zeros(count, np.int64))
    item = _zeros(min(2, manifest.limits.max_item_tokens), 1)
    backend.log_probabilities(
        PrefixBatch((prompt,), item, np.zeros(1, np.int64)), *np.zeros((2, 1), np.int64)
    )
    for sequence in sequences:
        backend.end(sequence)


def _zero_rows(sets: Sets, features: Sequence[SetFeature], count: int, *, gathered: bool) -> FeatureRows:
    """Makes rows that are all zeros."""
    ids = sum(isinstance(feature, IdFeature) for feature in features) if gathered else 0
    width = sets.width(features, but_ids=gathered)
    return FeatureRows(np.zeros((count, width), np.float32), np.full((count, ids), ZEROS))


def _zeros(length: int, count: int) -> TokenRuns:
    return TokenRuns.of_lengths(np.zeros(length * count, np.int64), [length] * count)


def _warm_up_sizes(longest: int, pass_tokens: int) -> list[tuple[int, int]]:
    """Returns tokens of an item, at most `longest`, and how many items, of each pass."""
    lengths = {min(2, longest), min(128, longest)}
    return [(length, count) for length in sorted(lengths) for count in (1, max(1, pass_tokens // length))]
