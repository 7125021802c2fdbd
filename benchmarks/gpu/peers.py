"""transformers with sdpa attention in bfloat16, used as its documentation shows, on the same weights and requests.

Two ways: each item's full prompt in a batch, and the prefix once with its KV repeated for every item. Both read the
label rows of the head only, over as many queries a pass as pay. `compiled_peers` has the same under torch.compile.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks.gpu.reports.energy import metered
from benchmarks.gpu.reports.figures import quantiles_ms
from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.workload.queries import EMBEDDED, LABEL_IDS, item_ids, random_query
from benchmarks.gpu.workload.shapes import ModelShape, RequestShape
from benchmarks.gpu.workload.torch_model import random_model

_LEAST_S = 1.2
KV = list[Tensor]  # key 0, value 0, key 1, ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Some queries of one shape as input embeddings on the device."""

    prefixes: Tensor  # [queries, prefix, hidden]
    items: Tensor  # [queries * items, item, hidden]

    @property
    def repeats(self) -> int:
        """Items a query."""
        return len(self.items) // len(self.prefixes)


class Peer:
    """Both ways to score a batch."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.rows = model.lm_head.weight[list(LABEL_IDS)].clone()

    def full_prompts(self, batch: Batch, pass_rows: int) -> Tensor:
        """Each item with its own copy of the prefix. [queries * items, labels]"""
        prefixes = batch.prefixes.repeat_interleave(batch.repeats, dim=0)
        whole = torch.cat([prefixes, batch.items], dim=1)
        return torch.cat([self.full(part) for part in whole.split(pass_rows)])  # type: ignore[no-untyped-call]

    def repeated_prefix(self, batch: Batch, pass_rows: int) -> Tensor:
        """The prefix once, its KV repeated for each of its items in a pass. [queries * items, labels]"""
        kv = self.prefill(batch.prefixes)
        repeats = batch.repeats
        # A pass has whole queries, or a piece of one.
        queries = max(1, pass_rows // repeats)
        parts = []
        for start in range(0, len(batch.prefixes), queries):
            chosen = [part[start : start + queries] for part in kv]
            items = batch.items[start * repeats : (start + queries) * repeats]
            most = min(len(items), max(pass_rows, 1)) if queries == 1 else len(items)
            for piece in items.split(most):  # type: ignore[no-untyped-call]
                copies = len(piece) // len(chosen[0])
                parts.append(
                    self.continued([part.repeat_interleave(copies, dim=0) for part in chosen], piece)
                )
        return torch.cat(parts)

    def full(self, states: Tensor) -> Tensor:
        """Label logits of whole sequences."""
        output = self.model.model(inputs_embeds=states, use_cache=False)
        logits: Tensor = output.last_hidden_state[:, -1] @ self.rows.T
        return logits

    def prefill(self, states: Tensor) -> KV:
        """KV of whole sequences."""
        cache = self.model.model(inputs_embeds=states, use_cache=True).past_key_values
        return [part for layer in cache.layers for part in (layer.keys, layer.values)]

    def continued(self, kv: KV, states: Tensor) -> Tensor:
        """Label logits of sequences that continue others."""
        cache = DynamicCache(list(zip(kv[::2], kv[1::2], strict=True)))
        output = self.model.model(inputs_embeds=states, past_key_values=cache, use_cache=True)
        logits: Tensor = output.last_hidden_state[:, -1] @ self.rows.T
        return logits


class CompiledPeer(Peer):
    """The same, its passes compiled: full prompts by decoder layer, one for all, and the others whole."""

    def __init__(self, model: Any, backend: str = "inductor") -> None:
        super().__init__(model)
        self._backend = backend
        self.prefill = torch.compile(super().prefill, dynamic=False, backend=backend)  # type: ignore[method-assign]
        self.continued = torch.compile(super().continued, dynamic=False, backend=backend)  # type: ignore[method-assign]

    def compile_layers(self) -> None:
        """For full prompts only: a layer that reads a cache would be compiled once for each place in the model."""
        for layer in self.model.model.layers:
            layer.compile(dynamic=False, backend=self._backend)


WAYS: dict[str, Callable[[Peer, Batch, int], Tensor]] = {
    "full_prompts": Peer.full_prompts,
    "repeated_prefix": Peer.repeated_prefix,
}


def main() -> None:
    """Measures every request shape of the workload, eagerly."""
    part = arguments(__doc__)
    model = random_model(part.workload.model, part.device, torch.bfloat16)
    peer = Peer(model)
    part.figures.add("loaded", True)
    for request in part.requests:
        for way in WAYS:
            if part.enough(8 if part.device == "cuda" else 0, f"{request.name} {way}"):
                measure(part, peer, way, request, part.scale.peer_tokens)


def measure(
    part: Part,
    peer: Peer,
    way: str,
    request: RequestShape,
    budgets: Sequence[int],
    name: str = "transformers",
    *,
    latency: bool = True,
) -> int:
    """Adds items/s by pass size, the best, and times of one query alone. Returns the best pass size in rows."""
    shape = part.workload.model
    tried: dict[int, float] = {}
    energy: dict[int, dict[str, Any]] = {}
    for tokens in budgets:
        rows = pass_rows(request, tokens)
        queries = max(1, round(rows / request.items))
        batch = batch_of(peer.model, shape, request, queries, part.device)
        seconds, energy[rows] = timed(
            lambda b=batch, r=rows: WAYS[way](peer, b, r),  # type: ignore[misc]
            part,
            queries * request.items,
        )
        tried[rows] = queries * request.items / statistics.median(seconds)
    best_rows = max(tried, key=tried.__getitem__)
    figures: dict[str, Any] = {
        "items_per_s": tried[best_rows],
        "pass_rows": best_rows,
        "tried": {f"{rows} rows": rate for rows, rate in tried.items()},
    }
    # Of the arithmetic that an answer needs, not of what this peer computes.
    share = part.share(tried[best_rows] / request.items * shape.flops(request))
    figures |= {f"useful_{name}": value for name, value in share.items()} | energy[best_rows]
    if latency:
        batch = batch_of(peer.model, shape, request, 1, part.device)
        seconds, _ = timed(lambda: WAYS[way](peer, batch, best_rows), part, 1)
        figures |= {f"one_query_{name}": value for name, value in quantiles_ms(seconds).items()}
    part.figures.add(f"{request.name} {name} {way}", figures)
    return best_rows


def pass_rows(request: RequestShape, tokens: int) -> int:
    """Rows of a pass of about so many tokens, the prefix among them, as its KV is repeated; whole queries if possible.

    A query that does not fit is cut into pieces as even as may be.
    """
    rows = max(1, tokens // (request.prefix + request.item))
    pieces = math.ceil(request.items / rows)
    return rows // request.items * request.items or math.ceil(request.items / pieces)


def batch_of(model: Any, shape: ModelShape, request: RequestShape, queries: int, device: str) -> Batch:
    """Random queries as input embeddings."""
    drawn = [random_query(shape, request, seed) for seed in range(queries)]
    table = model.model.embed_tokens
    with torch.inference_mode():
        prefixes = table(torch.from_numpy(np.stack([query.prefix for query in drawn])).to(device))
        ids = torch.from_numpy(np.concatenate([item_ids(shape, query) for query in drawn])).to(device)
        items = table(ids.clamp(min=0))
        if request.mixed:
            rows = np.concatenate([query.items for query in drawn])
            items[:, : rows.shape[1]] = torch.from_numpy(rows).to(items)
            assert bool((ids[:, 0] == EMBEDDED).all())
    return Batch(prefixes, items)


def timed(run: Callable[[], Tensor], part: Part, items: int) -> tuple[list[float], dict[str, Any]]:
    """Seconds of each call, device work included, and the energy of `items` items; two calls do not count.

    On a GPU calls go on for as long as its power takes to be known.
    """
    seconds: list[float] = []

    def once() -> float:
        begun = time.perf_counter()
        logits = run()
        if part.device == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - begun
        assert bool(torch.isfinite(logits).all())
        return taken

    with torch.inference_mode():
        once(), once()
        with metered(part.device) as meter:
            while len(seconds) < part.scale.rounds or (part.on_gpu and sum(seconds) < _LEAST_S):
                seconds.append(once())
    return seconds, meter.figures(items * len(seconds))


if __name__ == "__main__":
    main()
