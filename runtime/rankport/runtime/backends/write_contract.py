"""The seam between an engine that writes and a device: texts that grow by a token at a time, beside `contract`.

A backend is driven by one thread at a time, but that on a CPU others may prefill meanwhile (`EngineConfig.instances`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch, PrefixPieces, RecordingCounts, SplitKV
from rankport.runtime.tokens import TokenRuns


class SequenceKV(Protocol):
    """Keys and values of a sequence that is being written, resident on the backend's device. Opaque."""

    @property
    def length(self) -> int:
        """Tokens covered."""


@dataclass(frozen=True, slots=True)
class Likeliest:
    """The likeliest next tokens of each of several sequences, and the way to the logits of all others."""

    tokens: NDArray[np.int64]  # [sequences, likeliest], in no order
    logits: NDArray[np.float32]  # [sequences, likeliest]
    bounds: NDArray[np.float32]  # that no logit of another token is above. [sequences]
    # Log of the sum of exp of all logits; not finite where one of them is no number, or infinity. [sequences]
    log_sums: NDArray[np.float64]
    rows: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    """Gives all logits of some sequences, by their places, until the backend's next pass. [places, vocabulary]"""


class DecodeBackend(Protocol):
    """Sequences that grow by a token at a time behind a prefix: KV of the prefix once, then logits of each token."""

    @property
    def recordings(self) -> RecordingCounts | None:
        """Counts of the passes so far; None where nothing is recorded."""

    def prefill(self, batch: PrefixBatch) -> PrefixPieces:
        """Computes KV as `PrefixBackend.prefill`. [runs]"""

    def begin(self, prefix: PrefixPieces) -> SequenceKV:
        """Begins a sequence behind a prefix, whose KV is copied."""

    def decode(self, sequences: Sequence[SequenceKV], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Puts one token behind each sequence, and computes the logits of the next. [sequences, vocabulary]

        `tokens` [sequences]. A sequence has grown only if the whole call succeeds.
        """

    @property
    def finds_likeliest(self) -> bool:
        """True where the device finds likeliest tokens: what is asked of `decode_likeliest` alone costs least then."""

    def decode_likeliest(self, sequences: Sequence[SequenceKV], tokens: NDArray[np.int64]) -> Likeliest:
        """Decodes as `decode`, and tells the likeliest next tokens. Rows of logits cost least of first sequences."""

    def logits(self, batch: PrefixBatch) -> NDArray[np.float32]:
        """Computes the logits behind the tokens that the batch reads, and keeps nothing. [results, vocabulary]"""

    def log_probabilities(
        self, batch: PrefixBatch, rows: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Computes those of tokens, each behind one of the tokens that the batch reads; keeps nothing. [asked]

        `rows` [asked] says which of the results of `logits` each of `tokens` [asked], at least one, is of. They are
        not finite where one of those logits is no number, or infinity.
        """

    def end(self, sequence: SequenceKV) -> None:
        """Frees a sequence, which is not used again."""

    @property
    def split(self) -> SplitKV | None:
        """Splits KV of a prefix as `PrefixBackend.split`; None where it is used whole or not at all."""

    def close(self) -> None:
        """Frees the device."""


class AnswerKV(Protocol):
    """A text that was read, and the keys and values of its answers, `beams` beside each other. Opaque."""

    @property
    def length(self) -> int:
        """Tokens of each answer so far."""


class Seq2SeqBackend(Protocol):
    """Texts that are read once, and answers to them that grow by a token at a time."""

    def encode(self, texts: TokenRuns, beams: Sequence[int]) -> Sequence[AnswerKV]:
        """Reads texts, and begins so many answers to each. [texts]"""

    def decode(self, answers: Sequence[AnswerKV], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Puts one token behind each answer, and computes the logits of the next. [texts, beams, vocabulary]

        `tokens` [texts, beams]: all texts have as many beams. Answers have grown only if the whole call succeeds.
        """

    def reorder(self, answers: AnswerKV, parents: NDArray[np.int64]) -> None:
        """Has each answer go on from what that of `parents` [beams] is by now."""

    def end(self, answers: AnswerKV) -> None:
        """Frees a text and its answers, which are not used again."""

    def close(self) -> None:
        """Frees the device."""
