"""Models with the interface of `Ranker` and `ItemEncoder` whose answers are arithmetic and whose pace a test sets.

They queue, drop cancelled and late work before computing it, and refuse what is too much, as an engine does.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import DeadlineExceeded, InvalidRequest, LimitExceeded, Overloaded
from rankport.protos.priorities import Priority, own_priority
from rankport.protos.types import ItemStatus, Key, ModelDescription, ScoreResult, Usage
from rankport.runtime.kinds.capabilities import ModelCounts
from rankport.runtime.scheduling.counts import Queue, WorkerCounts

HIDDEN = 3


class Worker:
    """One thread that works off a queue, one job at a time, while `gate` is open."""

    def __init__(self, max_queued: int = 1000) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(
            0
        )  # a little after a client is told so: by then the thread drops it
        self.timeouts: list[float | None] = []
        self.priorities: list[Priority] = []
        self.computed = 0
        self.dropped = 0
        self._max_queued = max_queued
        self._jobs: queue.Queue[tuple[Future[Any], float | None, Callable[[], Any]] | None] = queue.Queue()
        self.alive = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, compute: Callable[[], Any], timeout_s: float | None) -> "Future[Any]":
        self.check_room()
        future: Future[Any] = Future()
        future.add_done_callback(self._note_cancelled)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.timeouts.append(timeout_s)
        self.priorities.append(own_priority())
        self._jobs.put((future, deadline, compute))
        self.arrived.release()
        return future

    def check_room(self) -> None:
        if self._jobs.qsize() >= self._max_queued:
            raise Overloaded(f"{self._max_queued} requests are queued")

    def close(self) -> None:
        self.gate.set()
        self._jobs.put(None)
        self._thread.join()

    def _note_cancelled(self, future: "Future[Any]") -> None:
        if future.cancelled():
            self.cancelled.release()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self.gate.wait()
            future, deadline, compute = job
            if not future.set_running_or_notify_cancel():
                self.dropped += 1
            elif deadline is not None and time.monotonic() >= deadline:
                self.dropped += 1
                future.set_exception(DeadlineExceeded("the request waited past its deadline"))
            else:
                self.computed += 1
                try:
                    future.set_result(compute())
                except Exception as error:
                    future.set_exception(error)


class DeterministicRanker:
    """Scores by sums: of code points, token ids or embeddings; a key counts by its length."""

    capabilities = frozenset({"scores"})

    def __init__(self, name: str = "ranker", max_queued: int = 1000) -> None:
        self.name = name
        self.worker = Worker(max_queued)
        self.silent_s = 0.0  # for which it says to have been in a pass
        self.refuse_with: Exception | None = None  # raised by `submit`
        self.fail_with: Exception | None = None  # raised by its future
        self.overloads_left = 0

    def score(self, prefix: Any, items: Any, timeout_s: float | None = None, **options: Any) -> ScoreResult:
        result: ScoreResult = self.submit(prefix, items, timeout_s, **options).result()
        return result

    def submit(
        self,
        prefix: Any,
        items: Sequence[Any],
        timeout_s: float | None = None,
        *,
        truncation: str = "error",
        on_missing: str = "skip",
    ) -> "Future[ScoreResult]":
        if self.refuse_with is not None:
            raise self.refuse_with
        if self.overloads_left:
            self.overloads_left -= 1
            raise Overloaded("busy")
        return self.worker.submit(lambda: self._result(prefix, items, truncation, on_missing), timeout_s)

    @property
    def alive(self) -> bool:
        return self.worker.alive

    def counts(self) -> ModelCounts:
        engine = WorkerCounts(time.monotonic).snapshot("cpu", Queue(0, 0, 0))
        return ModelCounts({"cpu": replace(engine, silent_s=self.silent_s)})

    def check_room(self, timeout_s: float | None, priority: Priority) -> None:
        self.worker.check_room()

    def describe(self) -> ModelDescription:
        return description(self.name, "ranker")

    def close(self, grace_s: float = 0.0) -> None:
        self.worker.close()

    def _result(self, prefix: Any, items: Sequence[Any], truncation: str, on_missing: str) -> ScoreResult:
        if self.fail_with is not None:
            raise self.fail_with
        options = float(f"{len(truncation)}.{len(on_missing)}")
        logits = np.array([[value(prefix) + value(item), options] for item in items], np.float32)
        found = [item != Key("missing") if isinstance(item, Key) else True for item in items]
        logits = logits.reshape(len(items), 2)
        logits[[not each for each in found]] = np.nan
        return ScoreResult(
            scores=logits[:, 0].copy(),
            logits=logits,
            status=tuple(ItemStatus.OK if each else ItemStatus.NOT_FOUND for each in found),
            messages=tuple("" if each else "not in the store" for each in found),
            usage=Usage(1, 2, len(items), 0.25, 0.5, 0.75),
            fingerprint="f" * 64,
            score_kind="logit",
            read_out="logit of sum",
        )


class DeterministicEncoder:
    """Encodes a text to [1, 3] of its sum, of a query negative; "bad" and texts over 100 characters are refused."""

    capabilities = frozenset({"encodes"})
    fingerprint = "e" * 64

    def __init__(self, name: str = "encoder", max_queued: int = 1000) -> None:
        self.name = name
        self.worker = Worker(max_queued)
        self.overloads_left = 0
        self.fail_with: Exception | None = None  # raised by the future of texts

    def count_tokens(self, texts: Any, *, truncation: str = "error") -> int:
        return sum(len(text) for text in texts)

    def encode(self, texts: Any, timeout_s: float | None = None, **options: Any) -> NDArray[np.floating]:
        rows: NDArray[np.floating] = self.submit_texts(texts, timeout_s, **options).result()
        return rows

    def submit_texts(
        self,
        texts: Sequence[Any],
        timeout_s: float | None = None,
        *,
        truncation: str = "error",
        side: str | None = None,
    ) -> "Future[NDArray[np.floating]]":
        if self.overloads_left:
            self.overloads_left -= 1
            raise Overloaded("busy")
        for index, text in enumerate(texts):
            if isinstance(text, str) and text == "bad":
                raise InvalidRequest(f"item {index} is {text!r}")
            if truncation == "error" and len(text) > 100:
                raise LimitExceeded(f"item {index} is longer than 100")
        return self.worker.submit(lambda: self._rows(texts, side), timeout_s)

    @property
    def alive(self) -> bool:
        return self.worker.alive

    def counts(self) -> ModelCounts:
        return ModelCounts({})

    def check_room(self, timeout_s: float | None, priority: Priority) -> None:
        self.worker.check_room()

    def describe(self) -> ModelDescription:
        return description(self.name, "item-encoder")

    def close(self, grace_s: float = 0.0) -> None:
        self.worker.close()

    def _rows(self, texts: Sequence[Any], side: str | None) -> NDArray[np.floating]:
        if self.fail_with is not None:
            raise self.fail_with
        sign = -1 if side == "query" else 1
        rows = np.array([[[sign * (value(text) % 1000)] * HIDDEN] for text in texts], np.float16)
        return rows.reshape(len(texts), 1, HIDDEN)


def value(thing: Any) -> float:
    """A number that depends on all of a prefix, item or text."""
    if isinstance(thing, Key):
        return 0.5 * len(thing.id)
    if isinstance(thing, str):
        return float(sum(map(ord, thing)))
    if isinstance(thing, dict):
        return sum(value(name) * value(text) for name, text in thing.items())
    return float(np.asarray(thing, np.float64).sum())


def description(name: str, kind: str) -> ModelDescription:
    """Of a model of that kind."""
    encoder = kind == "item-encoder"
    return ModelDescription(
        name=name,
        version="1",
        kind=kind,
        fingerprint=("e" if encoder else "f") * 64,
        architecture="Arithmetic",
        precision="fp32",
        labels=() if encoder else ("yes", "no"),
        prompt_fields=() if encoder else ("query",),
        item_forms=("text", "token_ids") if encoder else ("text", "token_ids", "embeddings", "key"),
        hidden_size=HIDDEN,
        embedding_tokens=1,
        embedding_dtype="float16",
        max_prefix_tokens=100,
        max_item_tokens=100,
        paired_encoder="" if encoder else "e" * 64,
        score_kind="" if encoder else "logit",
        read_out="" if encoder else "logit of sum",
    )
