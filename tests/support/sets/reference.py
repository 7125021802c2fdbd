"""A small ranker of sets in numpy float64: a real backend to test engines with, and its own judge.

An event is one number. Its state goes on from that of the event before it; a candidate reads all of them by attention,
and in a session the others' numbers. `ReferenceSetBackend` computes both from handles, `full` without any.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixKV, Started
from rankport.runtime.backends.set_contract import FeatureRows, History
from rankport.runtime.bundle.sections.sets import SetMask
from rankport.runtime.kinds.set_ranker.combining import Heads
from rankport.runtime.kinds.set_ranker.engine import SetEngine, SetInput, SetLogits

WIDTH = 4
HEADS = Heads(("click", "like"), probabilities=False, own={})
WEIGHTS = np.array([1.0, -0.5], np.float32)
TOP = 2
MASKS = {
    "independent": SetMask(policy="independent"),
    "set-wise": SetMask(policy="set-wise"),
    "top": SetMask(policy="top", top_k=TOP),
}
EVENT_BYTES = WIDTH * 8
"""Of the state of one event."""

Array = NDArray[np.float64]
_draw = np.random.default_rng(0)
_event, _query = _draw.normal(size=(2, WIDTH))
_head = _draw.normal(size=(WIDTH + 2, len(HEADS.names)))


@dataclass(eq=False)
class States:
    """States [events, width]."""

    values: Array

    @property
    def length(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


@dataclass(eq=False)
class ReferenceSetBackend:
    """`SetBackend` over that model, which passes may use beside each other, as on a CPU. Records every call."""

    before_call: Callable[[str, list[int]], None] = lambda kind, numbers: None  # may block or raise
    calls: list[tuple[str, list[int]]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    begun: int = 0  # calls, ended or not
    closed: bool = False
    recordings: None = None
    rows: None = None

    def read_ahead(self, events: FeatureRows, candidates: FeatureRows) -> None:
        assert not self.closed

    def extend(self, past: History, events: FeatureRows, times: NDArray[np.int64]) -> PrefixKV:
        self._enter("history", events)
        assert len(times) == len(events)
        before = _joined(past)
        return States(_states(events.values[:, 0], before[-1] if len(before) else np.zeros(WIDTH)))

    def start(
        self,
        past: History,
        now: int,
        candidates: FeatureRows,
        sessions: NDArray[np.int64] | None = None,
    ) -> Started[np.float32]:
        self._enter("rank", candidates)
        logits = _logits(_joined(past), candidates.values[:, 0], sessions)
        return Started(lambda: logits, done=True)

    def split(self, state: PrefixKV, length: int) -> tuple[PrefixKV, PrefixKV]:
        assert isinstance(state, States)
        assert 0 < length < state.length
        return States(state.values[:length].copy()), States(state.values[length:].copy())

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    def numbers(self, kind: str) -> list[list[int]]:
        """Events, or candidates, of each call of a kind. [calls]"""
        return [numbers for done, numbers in self.calls if done == kind]

    def _enter(self, kind: str, rows: FeatureRows) -> None:
        assert not self.closed
        assert len(rows)
        numbers = [int(number) for number in rows.values[:, 0]]
        self.threads.add(threading.get_ident())
        self.begun += 1
        self.before_call(kind, numbers)
        self.calls.append((kind, numbers))


def full(policy: str, events: Sequence[int], candidates: Sequence[int]) -> NDArray[np.float32]:
    """Logits of candidates of one session behind all events, computed in one go. [candidates, heads]"""
    states, given = _states(np.array(events, float), np.zeros(WIDTH)), np.array(candidates, float)
    together = np.zeros(len(given), np.int64)
    if policy != "top":
        return _logits(states, given, together if policy == "set-wise" else None)
    logits = _logits(states, given, None)
    best = np.sort(np.argsort(-(logits @ WEIGHTS), kind="stable")[:TOP])
    logits[best] = _logits(states, given[best], together[best])
    return logits


def submit(
    engine: SetEngine, events: Sequence[int], candidates: Sequence[int], **options: Any
) -> "Future[SetLogits]":
    """A request of one session; an event is known by its number."""
    values = [np.array(each, np.float32).reshape(-1, 1) for each in (events, candidates)]
    given = SetInput(
        events=FeatureRows.of_values(values[0]),
        identity=values[0].view(np.uint8).reshape(-1, 4),
        times=np.zeros(len(events), np.int64),
        candidates=FeatureRows.of_values(values[1]),
        now=0,
        sessions=np.zeros(len(candidates), np.int64),
        weights=WEIGHTS,
    )
    return engine.submit(given, **options)


def _joined(past: History) -> Array:
    states = np.concatenate([np.empty((0, WIDTH)), *(state.values for state in past.state)])  # type: ignore[attr-defined]
    assert len(states) == len(past.times)
    return states


def _states(events: NDArray[Any], before: Array) -> Array:
    states = []
    for number in events:
        before = np.tanh(before * 0.7 + np.roll(before, 1) * 0.2 + _event * number / 40)
        states.append(before)
    return np.array(states).reshape(-1, WIDTH)


def _logits(
    states: Array, candidates: NDArray[Any], sessions: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    numbers = np.asarray(candidates, float)
    weights = np.exp(np.outer(numbers / 40, states @ _query))
    read = weights @ states / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    others = numbers
    if sessions is not None:
        others = np.array([numbers[sessions == session].mean() for session in sessions])
    features = np.column_stack([read, numbers / 40, others / 40])
    return (features @ _head).astype(np.float32)
