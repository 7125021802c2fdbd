"""A ragged batch as the arrays that the `prefix` and `score` graphs take.

Tokens are packed without padding; only attention sees them in slots [prefixes, items, item_tokens].
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import EMBEDDED, RaggedBatch


@dataclass(frozen=True, slots=True)
class PackedInputs:
    """Graph inputs, by the names the graphs give them, without the past KV."""

    input_ids: NDArray[np.int64]  # [tokens], 0 where an embedding stands
    position_ids: NDArray[np.int64]  # [tokens]
    slots: NDArray[np.int64]  # [prefixes, items, item_tokens] packed index, 0 where padded
    token_slots: NDArray[np.int64]  # [tokens] flat slot
    past_lengths: NDArray[np.int64]  # [prefixes]
    last_tokens: NDArray[np.int64]  # [runs] packed index
    embeddings: NDArray[np.float32] | None  # [rows, hidden]; None if the batch has none
    embedding_rows: NDArray[np.int64]  # [tokens], -1 for text


def pack(batch: RaggedBatch) -> PackedInputs:
    """Lays the runs out in order. Logit row i belongs to run i."""
    lengths = np.fromiter((len(run.ids) for run in batch.runs), np.int64, len(batch.runs))
    assert len(batch.runs) > 0
    assert lengths.min() > 0
    assert np.all(np.diff(batch.run_prefix) >= 0)
    past_lengths = np.array([sum(piece.length for piece in pieces) for pieces in batch.prefixes], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    owner = batch.run_prefix
    item = rank_within(owner)
    run_of_token = np.repeat(np.arange(len(lengths)), lengths)
    offset = np.arange(lengths.sum()) - starts[run_of_token]

    shape = (len(batch.prefixes), int(item.max()) + 1, int(lengths.max()))
    token_slots = (owner[run_of_token] * shape[1] + item[run_of_token]) * shape[2] + offset
    slots = np.zeros(shape, np.int64)
    slots.reshape(-1)[token_slots] = np.arange(len(token_slots))

    ids = np.concatenate([run.ids for run in batch.runs])
    embedded = ids == EMBEDDED
    rows = np.where(embedded, np.cumsum(embedded) - 1, -1)
    parts = [run.embeddings for run in batch.runs if run.embeddings is not None]
    embeddings = np.concatenate(parts) if parts else None
    assert embedded.sum() == (0 if embeddings is None else len(embeddings))
    return PackedInputs(
        input_ids=np.where(embedded, 0, ids),
        position_ids=past_lengths[owner[run_of_token]] + offset,
        slots=slots,
        token_slots=token_slots,
        past_lengths=past_lengths,
        last_tokens=starts + lengths - 1,
        embeddings=embeddings,
        embedding_rows=rows,
    )


def rank_within(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each run among the runs of its prefix, for non-decreasing owners."""
    index = np.arange(len(owner))
    first = np.concatenate([[True], owner[1:] != owner[:-1]])
    result: NDArray[np.int64] = index - np.maximum.accumulate(np.where(first, index, 0))
    return result
