"""Mixed traffic against a served ranker: each call says what it asked for, and is judged by its answer.

A call is good if it was answered as in process, or refused with a status that fits what it is. Anything else is told.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field

import grpc
import numpy as np

from rankport.protos.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    Overloaded,
    RankportError,
    RequestCancelled,
    Unavailable,
)
from rankport.protos.types import Item, Key, ScoreResult
from rankport.sdk import Client

SCORE = "/rankport.v1.Scoring/Score"
WAIT_S = 30.0
TOLERANCE = 1e-4

Refusals = tuple[type[RankportError], ...]
BUSY: Refusals = (Overloaded, Unavailable)


@dataclass(frozen=True, slots=True)
class Question:
    """A request and the scores that it has in process."""

    query: str
    items: Sequence[Item]
    scores: np.ndarray  # [items]


@dataclass
class Ledger:
    """Outcomes of all calls. Any thread may write."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, outcome: str, wrong: str | None = None) -> None:
        with self._lock:
            self.counts[f"{kind}: {outcome}"] += 1
            if wrong is not None:
                self.wrong.append(f"{kind}: {wrong}")


class Caller:
    """One client that calls in all ways, drawn at random, until it is told to stop."""

    def __init__(self, address: str, questions: Sequence[Question], ledger: Ledger, seed: int) -> None:
        self._client = Client(address, timeout_s=WAIT_S, model="ranker", retry=False)
        self._address = address
        self._questions = questions
        self._ledger = ledger
        self._random = random.Random(seed)
        self._ways: tuple[tuple[Callable[[], None], int], ...] = (
            (self.score, 60),
            (self.cancel, 8),
            (self.hurry, 8),
            (self.burst, 3),
            (self.ask_too_much, 3),
            (self.ask_nobody, 3),
            (self.babble, 6),
            (self.list_models, 3),
        )

    def run(self, until: Callable[[], bool]) -> None:
        """Calls until `until` says so."""
        ways, weights = zip(*self._ways, strict=True)
        with self._client, grpc.insecure_channel(self._address) as self._channel:
            while not until():
                self._random.choices(ways, weights)[0]()

    def score(self) -> None:
        """Asks and waits."""
        self._judge("score", self._question(), lambda q: self._client.score(q.query, q.items), BUSY)

    def cancel(self) -> None:
        """Asks and gives up soon."""
        question = self._question()
        future = self._client.submit(question.query, question.items)
        time.sleep(self._random.uniform(0, 0.01))
        future.cancel()
        self._judge("cancel", question, lambda _: future.result(WAIT_S), (*BUSY, RequestCancelled))

    def hurry(self) -> None:
        """Asks with next to no time."""
        timeout_s = self._random.choice([1e-4, 2e-3, 0.02])
        ask = lambda q: self._client.score(q.query, q.items, timeout_s)  # noqa: E731
        self._judge("hurry", self._question(), ask, (*BUSY, DeadlineExceeded))

    def burst(self) -> None:
        """Asks many times at once."""
        questions = [self._question() for _ in range(48)]
        futures = [self._client.submit(question.query, question.items) for question in questions]
        for question, future in zip(questions, futures, strict=True):
            self._judge("burst", question, lambda _, future=future: future.result(WAIT_S), BUSY)  # type: ignore[misc]

    def ask_too_much(self) -> None:
        """Asks for more items than a request may have."""
        self._refused("too much", lambda: self._client.score("nurse", ["item"] * 5000), LimitExceeded)

    def ask_nobody(self) -> None:
        """Asks a model that is not there."""
        with Client(self._address, model="nobody", timeout_s=WAIT_S, retry=False) as client:
            self._refused("nobody", lambda: client.score("nurse", ["welder"]), NotFound)

    def babble(self) -> None:
        """Sends bytes that are no message, or a message that says nothing sensible."""
        data = self._random.randbytes(self._random.randrange(1, 200))
        try:
            self._channel.unary_unary(SCORE, None, None)(data, timeout=WAIT_S)
        except grpc.RpcError as error:
            code = error.code()  # type: ignore[attr-defined]
            allowed = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, *_BUSY_CODES)
            self._ledger.add("babble", code.name, None if code in allowed else f"{code} {error}")
        else:
            self._ledger.add("babble", "answered")

    def list_models(self) -> None:
        """Asks for the list, which is always answered while its process lives."""
        try:
            names = {model.name for model in self._client.models()}
        except Unavailable as error:
            self._ledger.add("list", type(error).__name__)
        else:
            self._ledger.add("list", "answered", None if names else "no model")

    def _question(self) -> Question:
        return self._random.choice(self._questions)

    def _judge(
        self, kind: str, question: Question, ask: Callable[[Question], ScoreResult], refusals: Refusals
    ) -> None:
        try:
            result = ask(question)
        except CancelledError:
            self._ledger.add(kind, "cancelled", None if kind == "cancel" else "cancelled by nobody")
        except RankportError as error:
            wrong = None if isinstance(error, refusals) else f"{type(error).__name__}: {error}"
            self._ledger.add(kind, type(error).__name__, wrong)
        else:
            apart = float(np.abs(result.scores - question.scores).max())
            self._ledger.add(kind, "answered", None if apart <= TOLERANCE else f"scores differ by {apart}")

    def _refused(self, kind: str, ask: Callable[[], object], expected: type[RankportError]) -> None:
        try:
            ask()
        except (expected, *BUSY) as error:
            self._ledger.add(kind, type(error).__name__)
        except (RankportError, InvalidRequest) as error:
            self._ledger.add(kind, type(error).__name__, f"{type(error).__name__}: {error}")
        else:
            self._ledger.add(kind, "answered", "answered")


_BUSY_CODES = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


def questions_of(score: Callable[[str, Sequence[Item]], ScoreResult], keys: Sequence[str]) -> list[Question]:
    """Draws requests of texts and of keys, and has them scored in process."""
    rng = random.Random(0)
    words = ["nurse", "welder", "baker", "pilot", "clerk", "driver", "cook", "judge"]
    questions = []
    for number in range(24):
        query = " ".join(rng.choices(words, k=2))
        items: list[Item] = [Key(key) for key in rng.sample(keys, 6)]
        if number % 2:
            items += [" ".join(rng.choices(words, k=3)) for _ in range(rng.randrange(1, 40))]
        questions.append(Question(query, items, score(query, items).scores))
    return questions
