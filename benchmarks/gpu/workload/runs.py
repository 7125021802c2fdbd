"""Requests as the engine takes them, for parity and for throughput without the request's way there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from benchmarks.gpu.workload.queries import item_ids, random_query
from benchmarks.gpu.workload.shapes import ModelShape, RequestShape
from rankport.exporters.kinds.ranker.proof.modes import SampleRequest
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.runtime.backends.contract import PrefixBackend, PrefixBatch, PrefixKV
from rankport.runtime.bundle.manifest import Limits
from rankport.runtime.tokens import TokenRun

_SHARED_QUERIES = 4
_MOST_TOKENS = 20_000


def samples(model: ModelShape) -> list[SampleRequest]:
    """Those that every export is proven with: lengths from one token to the limits."""
    limits = Limits(max_prefix_tokens=model.max_prefix_tokens, max_item_tokens=model.max_item_tokens)
    scale = 0.036 * model.hidden**0.5 if model.mix else None
    return sample_requests(model.vocabulary, model.hidden, limits, scale)


def realistic(model: ModelShape, shapes: Sequence[RequestShape]) -> list[SampleRequest]:
    """A few queries of each measured shape, no more than a reference in fp32 answers in seconds."""
    return [
        run_of(model, shape, seed)
        for shape in shapes
        for seed in range(max(1, min(_SHARED_QUERIES, _MOST_TOKENS // (shape.items * shape.item))))
    ]


def run_of(model: ModelShape, shape: RequestShape, seed: int) -> SampleRequest:
    """The query of this seed; its form is the shape's name."""
    query = random_query(model, shape, seed)
    ids = item_ids(model, query)
    rows = query.items.astype(np.float32) if shape.mixed else [None] * len(ids)
    items = tuple(TokenRun(run, row) for run, row in zip(ids, rows, strict=True))
    return SampleRequest(TokenRun(query.prefix), items, shape.name)


@dataclass(frozen=True, slots=True)
class Passes:
    """Passes over as many queries of a shape as the engine would take into one."""

    queries: int
    prefill: PrefixBatch
    score: PrefixBatch

    @classmethod
    def of(cls, backend: PrefixBackend, model: ModelShape, shape: RequestShape, most_tokens: int) -> Self:
        """Makes them, straight for a backend; the KV that the items are behind is computed."""
        queries = max(1, most_tokens // (shape.items * shape.item))
        runs = [run_of(model, shape, seed) for seed in range(queries)]
        nothing: tuple[tuple[PrefixKV, ...], ...] = tuple(() for _ in runs)
        prefill = PrefixBatch.of(nothing, tuple(run.prefix for run in runs), np.arange(queries))
        kv = backend.prefill(prefill)
        items = tuple(item for run in runs for item in run.items)
        owners = np.repeat(np.arange(queries), shape.items)
        return cls(queries, prefill, PrefixBatch.of(tuple((one,) for one in kv), items, owners))
