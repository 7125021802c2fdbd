"""`RowEncoder`: a batch of rows to embedding tokens, where a row that cannot be encoded costs no other row.

Owns what happens when a batch fails, and the hash of a text; batches are `batching`'s, which rows are encoded, and
where the tokens go, is the jobs'.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import of_single_item
from rankport.protos.errors import BackendError, InvalidRequest, LimitExceeded
from rankport.protos.types import ModelDescription, Truncation
from rankport.protos.wording import counted
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.store.token_spec import CONTENT_HASH_BYTES


def content_hash(text: str, *, truncated: bool = False) -> bytes:
    """Hashes [16] an item's text, and whether its tokens are those of a cut text.

    So a later job that forbids truncation does not take the tokens of a cut text for unchanged.
    """
    person = b"item, truncated" if truncated else b"item"
    return blake2b(text.encode(), digest_size=CONTENT_HASH_BYTES, person=person).digest()


class Encoder(Protocol):
    """Maker of the tokens: an `ItemEncoder` in process, or a client of a served one."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the item encoder's bundle."""

    def describe(self) -> ModelDescription:
        """Gives the shape and type of the tokens."""

    def encode(self, texts: Sequence[str], /, *, truncation: Truncation) -> NDArray[np.floating]:
        """Computes the tokens of the texts. [texts, k, hidden]"""


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """Row and its tokens."""

    row: ItemRow
    tokens: NDArray[np.floating]  # [k, hidden]
    truncated: bool  # its text was cut to the encoder's limit


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Outcome of the rows of a batch: every one is in one of the lists."""

    encoded: list[EncodedRow] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    failed: list[BadRow] = field(default_factory=list)  # of the bad ones: they may do better another time


class RowEncoder:
    """Encodes batches of rows.

    A batch that fails is halved until the rows at fault stand alone. Texts over the encoder's limit are told
    by its own error, by their places or, from an encoder that tells none, in the same way; they are then encoded
    together with truncation if that is the policy.
    """

    def __init__(
        self,
        encoder: Encoder,
        truncation: Truncation,
        max_failures_in_a_row: int,
        dtype: "np.dtype[np.floating] | None" = None,
    ) -> None:
        """Gives the tokens in `dtype`, as the encoder makes them if it is None."""
        self._encoder = encoder
        self._truncation = truncation
        self._max_failures = max_failures_in_a_row
        self._dtype = dtype
        self._failures = 0

    def encode(self, rows: Sequence[ItemRow]) -> EncodedBatch:
        """Encodes a batch to tokens and bad rows.

        Raises:
            BackendError: the encoder failed on too many single rows in a row (it is broken, not they), or
                breaks its contract.
            RankportError: what the encoder raises that no row is to blame for (unavailable, overloaded, …).
        """
        batch = EncodedBatch()
        too_long: list[ItemRow] = []
        self._encode(rows, "error", batch, too_long)
        if too_long:
            self._encode(too_long, "truncate", batch, too_long)
        return batch

    def _encode(
        self, rows: Sequence[ItemRow], truncation: Truncation, batch: EncodedBatch, too_long: list[ItemRow]
    ) -> None:
        try:
            tokens = self._encoder.encode([row.text for row in rows], truncation=truncation)
        except (InvalidRequest, BackendError) as error:
            over = _places_over(error, len(rows)) if truncation != self._truncation else frozenset()
            if over:
                too_long += [row for place, row in enumerate(rows) if place in over]
                rest = [row for place, row in enumerate(rows) if place not in over]
                if rest:
                    self._encode(rest, truncation, batch, too_long)
            elif len(rows) > 1:
                half = len(rows) // 2
                self._encode(rows[:half], truncation, batch, too_long)
                self._encode(rows[half:], truncation, batch, too_long)
            elif isinstance(error, LimitExceeded) and truncation != self._truncation:
                too_long.append(rows[0])
            else:
                self._fail(rows[0], error, batch)
            return
        self._failures = 0
        with np.errstate(over="ignore"):
            fitting = tokens.astype(self._dtype or tokens.dtype, copy=False)
        _keep(rows, fitting, truncation == "truncate", batch)

    def _fail(self, row: ItemRow, error: InvalidRequest | BackendError, batch: EncodedBatch) -> None:
        bad = row.bad(of_single_item(str(error)))
        batch.bad.append(bad)
        if isinstance(error, BackendError):
            batch.failed.append(bad)
            self._failures += 1
            if self._failures >= self._max_failures:
                raise BackendError(
                    f"the encoder failed on {counted(self._failures, 'row')} in a row, last on row {row.line}: {error}"
                ) from error


def _places_over(error: Exception, rows: int) -> frozenset[int]:
    """Returns the places of texts that are over the encoder's limit, where its error tells all of them."""
    return frozenset(place for place in getattr(error, "places", ()) if place < rows)


def _keep(
    rows: Sequence[ItemRow], tokens: NDArray[np.floating], truncated: bool, batch: EncodedBatch
) -> None:
    if tokens.ndim != 3 or len(tokens) != len(rows):
        raise BackendError(f"the encoder gave an array {list(tokens.shape)} for {counted(len(rows), 'text')}")
    finite = np.isfinite(tokens).all(axis=(1, 2))
    for row, row_tokens, ok in zip(rows, tokens, finite, strict=True):
        if ok:
            batch.encoded.append(EncodedRow(row, row_tokens, truncated))
        else:
            batch.bad.append(row.bad(f"the encoder gave tokens that are not finite in {tokens.dtype.name}"))
