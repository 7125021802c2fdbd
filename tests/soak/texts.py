"""Texts beside the scores: written to their end, left midway, or given next to no time; each judged by its tokens.

A text that is answered is that of this process, of the same seed; what came of one that was left is its beginning.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rankport.protos.errors import DeadlineExceeded, InvalidRequest, LimitExceeded, RankportError
from rankport.protos.generation import GenerateResult, Sampling
from rankport.sdk import Client
from soak.traffic import BUSY, WAIT_S, Ledger, Refusals

_WORDS = ("nurse", "welder", "baker", "pilot", "clerk", "driver", "cook", "judge")


@dataclass(frozen=True, slots=True)
class Asked:
    """A text that is asked for, and what it is in process."""

    prompt: str
    sampling: Sampling
    token_ids: tuple[int, ...]
    text: str


def asked_of(generate: Callable[[str, Sampling], GenerateResult]) -> list[Asked]:
    """Draws prompts that share a beginning, and ways of drawing tokens, and has the texts written in process."""
    rng = random.Random(1)
    asked = []
    for number in range(16):
        prompt = f"hospital {rng.choice(_WORDS)} " + " ".join(rng.choices(_WORDS, k=rng.randrange(1, 6)))
        drawn = {"temperature": 0.9, "top_p": 0.95, "seed": number} if number % 2 else {"temperature": 0.0}
        sampling = Sampling(max_tokens=rng.randrange(2, 48), **drawn)
        written = generate(prompt, sampling)
        asked.append(Asked(prompt, sampling, written.token_ids, written.text))
    return asked


class Reader:
    """One client that has texts written in all ways, drawn at random, until it is told to stop."""

    def __init__(self, address: str, asked: Sequence[Asked], ledger: Ledger, seed: int) -> None:
        self._client = Client(address, timeout_s=WAIT_S, model="writer", retry=False)
        self._asked, self._ledger, self._random = asked, ledger, random.Random(seed)
        self._ways: tuple[tuple[Callable[[], None], int], ...] = (
            (self.read, 50),
            (self.leave, 30),
            (self.hurry, 15),
            (self.ask_too_much, 5),
        )

    def run(self, until: Callable[[], bool]) -> None:
        """Reads until `until` says so."""
        ways, weights = zip(*self._ways, strict=True)
        with self._client:
            while not until():
                self._random.choices(ways, weights)[0]()

    def read(self) -> None:
        """Reads a text to its end."""
        self._judge("text", self._random.choice(self._asked), BUSY)

    def leave(self) -> None:
        """Reads some tokens of a text, none at times, and ends it."""
        self._judge("left text", self._random.choice(self._asked), BUSY, parts=self._random.randrange(0, 6))

    def hurry(self) -> None:
        """Reads a text with too little time for it, at times next to none."""
        timeout_s = self._random.choice([1e-3, 0.01, 0.05])
        self._judge("hurried text", self._random.choice(self._asked), (*BUSY, DeadlineExceeded), timeout_s)

    def ask_too_much(self) -> None:
        """Asks for more tokens than the bundle writes."""
        try:
            self._client.generate("nurse", Sampling(max_tokens=100_000))
        except (LimitExceeded, *BUSY) as error:
            self._ledger.add("too long a text", type(error).__name__)
        except (RankportError, InvalidRequest) as error:
            self._ledger.add("too long a text", type(error).__name__, f"{type(error).__name__}: {error}")
        else:
            self._ledger.add("too long a text", "answered", "answered")

    def _judge(
        self,
        kind: str,
        asked: Asked,
        refusals: Refusals,
        timeout_s: float | None = None,
        parts: int | None = None,
    ) -> None:
        came: list[int] = []
        whole: GenerateResult | None = None
        try:
            with self._client.stream(asked.prompt, asked.sampling, timeout_s) as stream:
                for part in stream:
                    if len(came) == parts:
                        break
                    came += [] if part.token_id is None else [part.token_id]
                else:
                    whole = stream.result()
        except RankportError as error:
            wrong = None if isinstance(error, refusals) else f"{type(error).__name__}: {error}"
            self._ledger.add(kind, type(error).__name__, wrong or _differs(came, whole, asked))
        else:
            self._ledger.add(kind, "answered" if whole else "left", _differs(came, whole, asked))


def _differs(came: Sequence[int], whole: GenerateResult | None, asked: Asked) -> str | None:
    """Tells where a text, or the tokens that came of one, are others than in process."""
    expected = list(asked.token_ids)
    same = came[: len(expected)] == expected[: len(came)]  # the token that ends a text may come too
    if same and (whole is None or (whole.token_ids, whole.text) == (asked.token_ids, asked.text)):
        return None
    return f"{asked.prompt!r} of {asked.sampling} gave {came} {whole}, in process {expected} {asked.text!r}"
