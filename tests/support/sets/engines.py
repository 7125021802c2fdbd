"""Engines of rankers of sets over the reference backend, held in a call until let go."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.set_ranker.engine import SetEngine, SetLogits
from support.engines import WAIT_S
from support.sets.reference import HEADS, MASKS, ReferenceSetBackend

HELD = 41
TWO = EngineConfig(instances=2, max_prefill_tokens=2)


def answered(future: "Future[SetLogits]") -> SetLogits:
    return future.result(WAIT_S)


@contextmanager
def running(
    backend: ReferenceSetBackend, config: EngineConfig = TWO, policy: str = "set-wise", **options: object
) -> Iterator[SetEngine]:
    engine = SetEngine(backend, MASKS[policy], HEADS, config, **options)  # type: ignore[arg-type]
    try:
        yield engine
    finally:
        engine.close()


@dataclass(eq=False)
class Holding(ReferenceSetBackend):
    """Holds every call that has the number HELD, in its events or candidates, until let go."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.before_call = self.hold

    def hold(self, kind: str, numbers: list[int]) -> None:
        if HELD in numbers:
            self.reached.set()
            assert self.opened.wait(WAIT_S)

    def wait_for(self, calls: int) -> None:
        """Waits until so many calls have begun."""
        until_s = time.monotonic() + WAIT_S
        while self.begun < calls:
            assert time.monotonic() < until_s
            time.sleep(0.001)


@contextmanager
def holding(backend: Holding, config: EngineConfig = TWO, **options: object) -> Iterator[SetEngine]:
    """An engine of several instances, let go of at the end."""
    with running(backend, config, **options) as engine:  # type: ignore[arg-type]
        try:
            yield engine
        finally:
            backend.opened.set()
