"""A ranker's answers over batch sizes: of the modes that are measured anyway, or of many requests at every size."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from rankport.exporters.kinds.ranker.proof.judged import JudgedRun
from rankport.exporters.kinds.ranker.proof.modes import SampleRequest, prefill_together
from rankport.exporters.proof.batches import batch_independence
from rankport.exporters.proof.compare import Logits, RankValues
from rankport.runtime.backends.contract import PrefixBackend, PrefixBatch
from rankport.runtime.bundle.manifest import BatchIndependence, Manifest
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRun


def batches_of_modes(
    requests: Sequence[SampleRequest], answers: Mapping[str, Sequence[Logits]], rank_values: RankValues
) -> BatchIndependence:
    """Compares the modes that differ in what shares a pass. `answers` are those of `answers_by_mode`."""
    forms = dict.fromkeys(request.form for request in requests)
    sizes = {
        "one_item": 1,
        "prefix_reuse": max(len(request.items) for request in requests),
        "many_prefixes": max(sum(len(r.items) for r in requests if r.form == form) for form in forms),
    }
    return batch_independence(
        {
            size: [rank_values(logits) for form in forms for logits in answers[f"{mode}/{form}"]]
            for mode, size in sizes.items()
        }
    )


def batches_of_sweep(
    backend: PrefixBackend,
    requests: Sequence[SampleRequest],
    config: EngineConfig,
    rank_values: RankValues,
    on_size: Callable[[int], None] = lambda size: None,
) -> BatchIndependence:
    """Answers the requests in passes of 1 item, 2, 4, … up to as many as a pass of `config` has tokens for."""
    tokens = [len(item.ids) for request in requests for item in request.items]
    most = max(1, int(config.max_batch_tokens / np.mean(tokens)))
    by_size = {}
    for size in sorted({*(2**power for power in range(most.bit_length())), most}):
        on_size(size)
        logits = _in_passes(backend, requests, size, config.max_prefill_tokens)
        by_size[size] = [rank_values(rows) for rows in logits]
    return batch_independence(by_size)


def sample_queries(
    count: int, manifest: Manifest, vocab_size: int, judged: Sequence[JudgedRun], *, seed: int = 0
) -> list[SampleRequest]:
    """Draws judged requests, in an order of their own; without any, requests of random tokens. [count]"""
    rng = np.random.default_rng(seed)
    if judged:
        runs = [judged[i] for i in rng.choice(len(judged), count, replace=count > len(judged))]
        return [SampleRequest(run.prefix, run.items, "text") for run in runs]
    longest_prefix = min(_RANDOM_PREFIX, manifest.limits.max_prefix_tokens)
    longest_item = min(_RANDOM_ITEM, manifest.limits.max_item_tokens)

    def run(least: int, most: int) -> TokenRun:
        return TokenRun(rng.integers(0, vocab_size, int(rng.integers(least, most + 1))))

    return [
        SampleRequest(
            run(0, longest_prefix), tuple(run(1, longest_item) for _ in range(_RANDOM_ITEMS)), "text"
        )
        for _ in range(count)
    ]


_RANDOM_PREFIX, _RANDOM_ITEM, _RANDOM_ITEMS = 48, 24, 20


def _in_passes(
    backend: PrefixBackend, requests: Sequence[SampleRequest], size: int, prefill_tokens: int
) -> list[Logits]:
    result: list[Logits] = []
    for group in _groups(requests, size, prefill_tokens):
        pieces = prefill_together(backend, [request.prefix for request in group])
        items = [item for request in group for item in request.items]
        counts = [len(request.items) for request in group]
        prefix_of = np.repeat(np.arange(len(group)), counts)
        passes = []
        for start in range(0, len(items), size):
            used, places = np.unique(prefix_of[start : start + size], return_inverse=True)
            chunk = tuple(items[start : start + size])
            passes.append(backend.score(PrefixBatch.of(tuple(pieces[i] for i in used), chunk, places)))
        result += np.split(np.concatenate(passes), np.cumsum(counts)[:-1])
    return result


def _groups(
    requests: Sequence[SampleRequest], size: int, prefill_tokens: int
) -> Iterator[list[SampleRequest]]:
    """Splits the requests into those of one prefill: at least one, at most `size` items and `prefill_tokens`."""
    group: list[SampleRequest] = []
    for request in requests:
        together = [*group, request]
        items = sum(len(one.items) for one in together)
        if group and (items > size or sum(len(one.prefix.ids) for one in together) > prefill_tokens):
            yield group
            group = []
        group.append(request)
    yield group
