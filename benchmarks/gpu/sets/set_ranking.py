"""Rankers of sets: candidates a second with histories kept and read anew, one request alone, and their logits.

Exports on the spot, from random weights, as `encoding` does. The share is of the product in what a case is held in,
measured here too.
"""

import dataclasses
import statistics
import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.ceilings import product_tflops
from benchmarks.gpu.reports.device_facts import device_load
from benchmarks.gpu.reports.energy import metered
from benchmarks.gpu.reports.figures import quantiles_ms
from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.sets.case import (
    CASES,
    FULL,
    TINY,
    SetCase,
    SetRequest,
    SetShape,
    drawn,
    expected,
    flops,
    random_model,
)
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.kinds.set_ranker.kind import SET_RANKER
from rankport.exporters.kinds.set_ranker.options import SetRankerOptions
from rankport.exporters.steps.stage import stage
from rankport.protos.sets import SetRanking
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker

GOAL = 1.5
"""Least ratio of histories read anew to histories kept, in seconds of a batch."""
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_CASE_S, _LEAST_S, _WARM_UPS = 8, 1.2, 4
_ALONE, _TINY_ALONE = 110, 6


def main() -> None:
    """Measures every case that there is time for."""
    part = arguments(__doc__)
    shape = FULL if part.on_gpu else TINY
    for case in CASES:
        if part.enough(_CASE_S if part.on_gpu else 0, case.name):
            _measure(part, case, shape)
    part.figures.add("done", True)


def _measure(part: Part, case: SetCase, shape: SetShape) -> None:
    begun = time.monotonic()
    model = random_model(case, shape)
    bundle = _export(part, case, model)
    exported = time.monotonic()
    ceiling = product_tflops(part.scale.product, part.device, _DTYPES[case.held_in])
    of_case = dataclasses.replace(part, ceiling_tflops=ceiling)
    with SetRanker.load(bundle, config=part.engine) as ranker:
        loaded = {"export_s": exported - begun, "load_s": time.monotonic() - exported}
        part.figures.add(f"{case.name}, loaded", loaded | {"product_tflops": ceiling})
        batch = _Batch(of_case, case, shape, ranker)
        part.figures.add(f"{case.name}, logits", batch.parity(model))
        kept, alone = batch.measured(fresh=False), batch.alone()
        fresh = batch.measured(fresh=True)  # last: its histories may drive the kept ones out
        ratio = fresh.pop("batch_s") / kept.pop("batch_s")
        part.figures.add(f"{case.name}, histories kept", kept)
        part.figures.add(f"{case.name}, histories read anew", fresh)
        verdict = {"ratio": ratio, "goal": GOAL, "reached": ratio >= GOAL}
        part.figures.add(f"{case.name}, read anew / kept", verdict)
        part.figures.add(f"{case.name}, one request alone", quantiles_ms(alone))
        counts = ranker.counts()
        passes = {name: f"{each.recordings} {each.rows}" for name, each in counts.engines.items()}
        part.figures.add(f"{case.name}, device", device_load() | {"cache": str(counts.cache)} | passes)


class _Batch:
    """Requests that are in flight at once, at the ranker as its users have it."""

    def __init__(self, part: Part, case: SetCase, shape: SetShape, ranker: SetRanker) -> None:
        self._part, self._case, self._shape, self._ranker = part, case, shape, ranker
        self._rng = np.random.default_rng(0)
        self._kept = [drawn(shape, self._rng) for _ in range(shape.requests)]

    def parity(self, model: SetRankerModel) -> dict[str, float]:
        """Compares the logits of a request with the module's in fp32."""
        _, logits = expected(model, self._kept[0])
        actual = self._submit(self._kept[0]).result().head_scores
        error = np.abs(actual - logits.numpy()).max()
        return {"max_abs_error": float(error), "spread": float(logits.std())}

    def measured(self, *, fresh: bool) -> dict[str, Any]:
        """Measures rounds of all requests at once, after some that record passes and fill the cache."""
        part, shape, seconds, latencies = self._part, self._shape, list[float](), list[float]()
        for _ in range(_WARM_UPS):
            self._round(fresh=fresh)
        with metered(part.device) as meter:
            while len(seconds) < part.scale.rounds or (part.on_gpu and sum(seconds) < _LEAST_S):
                taken, cached = self._round(fresh=fresh)
                # Two histories may begin alike.
                assert cached < 0.01 if fresh else cached == 1, cached
                seconds.append(max(taken))
                latencies += taken
        batch_s, candidates = statistics.median(seconds), shape.requests * shape.candidates
        share = part.share(shape.requests * flops(self._case, shape, cached=not fresh) / batch_s)
        figures = {"candidates_per_s": candidates / batch_s, "batch_s": batch_s}
        return figures | share | quantiles_ms(latencies) | meter.figures(candidates * len(seconds))

    def alone(self) -> list[float]:
        """Measures seconds of one request at a time, its history kept."""
        seconds = []
        for _ in range(_ALONE if self._part.on_gpu else _TINY_ALONE):
            request = drawn(self._shape, self._rng).behind(self._kept[0])
            begun = time.perf_counter()
            self._submit(request).result()
            seconds.append(time.perf_counter() - begun)
        return seconds

    def _round(self, *, fresh: bool) -> tuple[list[float], float]:
        """Seconds of each request, from the start of all, and the share of events whose state was there.

        Candidates are other ones each time.
        """
        requests = [drawn(self._shape, self._rng) for _ in self._kept]
        if not fresh:
            requests = [new.behind(old) for new, old in zip(requests, self._kept, strict=True)]
        ended: list[float] = []
        begun = time.perf_counter()
        futures = [self._submit(request) for request in requests]
        for future in futures:
            future.add_done_callback(lambda _: ended.append(time.perf_counter()))
        cached = sum(future.result().usage.prefix_tokens_cached for future in futures)
        while len(ended) < len(futures):
            time.sleep(0)  # a future is done before its callbacks are
        return [end - begun for end in ended], cached / (len(futures) * self._shape.events)

    def _submit(self, request: SetRequest) -> "Future[SetRanking]":
        return self._ranker.submit_rank(request.query(timed=self._ranker.schema.times))


def _export(part: Part, case: SetCase, model: SetRankerModel) -> Bundle:
    """Its proof is left to the device."""
    checkpoint = part.work / "set-ranker.checkpoint"
    model.save(checkpoint)
    half = part.on_gpu and case.held_in != "fp32"
    chosen = SetRankerOptions(
        target="onnx-cuda" if part.on_gpu else "onnx-cpu",
        precision=case.held_in if half else None,
        table_dtype="float16" if part.on_gpu else None,
        overwrite=True,
    )
    with BundleStaging(part.work / "set-ranker.bundle", overwrite=True) as staging:
        draft, _ = stage(staging, SET_RANKER, checkpoint, chosen, [], print)
        staging.finalize(draft)
        return staging.publish()


if __name__ == "__main__":
    main()
