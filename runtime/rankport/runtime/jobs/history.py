"""`JobHistory`: what a page about an encode job shows. Owns lengths, padding, rates and reasons, in bounded memory.

The job knows nothing of it: the history watches the encoder, and is told of progress and bad rows as a progress bar is.
"""

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.types import ModelDescription, Truncation
from rankport.runtime.jobs.encode_report import EncodeProgress
from rankport.runtime.jobs.row_encoder import Encoder
from rankport.runtime.jobs.rows.records import BadRow

_MOST_MOMENTS = 1000
_MOST_REASONS = 100
_OTHER_REASONS = "other reasons"
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class TimedProgress:
    """Rows done with by a moment of the job."""

    seconds: float  # since the job began
    rows: int
    encoded: int
    bad_rows: int


class JobHistory:
    """History of a job under way; begins when it is made. One thread at a time."""

    def __init__(self, interval_s: float = 0.1) -> None:
        """Keeps a moment of progress every `interval_s` seconds, fewer the longer the job takes."""
        self._begun_s = time.perf_counter()
        self._interval_s = interval_s
        self._last: TimedProgress = TimedProgress(0.0, 0, 0, 0)
        self._moments: list[TimedProgress] = [self._last]
        self.lengths: Counter[int] = Counter()  # texts by the power of two of characters that they reach
        self.chars = 0  # of all texts encoded
        self.chars_padded = 0  # were every text of a batch as long as its longest
        self.batches = 0
        self.encode_s = 0.0  # in the encoder
        self.reasons: Counter[str] = Counter()  # bad rows by reason, without the values in it

    @property
    def moments(self) -> tuple[TimedProgress, ...]:
        """Moments in order, the last one among them; at most 1,001."""
        last = () if self._last is self._moments[-1] else (self._last,)
        return (*self._moments, *last)

    @property
    def padding_share(self) -> float:
        """Share of a batch's characters that would be padding, 0 to 1."""
        return 1 - self.chars / self.chars_padded if self.chars_padded else 0.0

    def watched(self, encoder: Encoder) -> Encoder:
        """Wraps an encoder so that its calls are noted."""
        return _Watched(encoder, self)

    def take_progress(self, now: EncodeProgress) -> None:
        """Notes progress."""
        self._last = TimedProgress(time.perf_counter() - self._begun_s, now.rows, now.encoded, now.bad_rows)
        if self._last.seconds - self._moments[-1].seconds >= self._interval_s:
            self._moments.append(self._last)
        if len(self._moments) > _MOST_MOMENTS:
            self._moments = self._moments[::2]
            self._interval_s = max(2 * self._interval_s, self._last.seconds / _MOST_MOMENTS)

    def take_bad_row(self, row: BadRow) -> None:
        """Counts a bad row's reason."""
        reason = _VALUES.sub("…", row.reason)
        known = reason in self.reasons or len(self.reasons) < _MOST_REASONS
        self.reasons[reason if known else _OTHER_REASONS] += 1

    def take_batch(self, texts: Sequence[str], seconds: float) -> None:
        """Notes texts that were encoded together."""
        lengths = [len(text) for text in texts]
        self.lengths.update(max(0, length - 1).bit_length() for length in lengths)
        self.chars += sum(lengths)
        self.chars_padded += max(lengths, default=0) * len(lengths)
        self.batches += 1
        self.encode_s += seconds


class _Watched:
    def __init__(self, encoder: Encoder, history: JobHistory) -> None:
        self._encoder = encoder
        self._history = history

    @property
    def fingerprint(self) -> str:
        return self._encoder.fingerprint

    def describe(self) -> ModelDescription:
        return self._encoder.describe()

    def encode(self, texts: Sequence[str], /, *, truncation: Truncation) -> NDArray[np.floating]:
        begun_s = time.perf_counter()
        tokens = self._encoder.encode(texts, truncation=truncation)
        self._history.take_batch(texts, time.perf_counter() - begun_s)
        return tokens
