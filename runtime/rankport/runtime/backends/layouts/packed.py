"""`Packed`: tokens without padding; only attention sees them in slots [prefixes, items, item tokens]."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm, HostArray
from rankport.runtime.backends.layouts.sizes import LINE, PassSizes, lines, rounded
from rankport.runtime.tokens import EMBEDDED, TokenRuns, places_within


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch as the graphs for a CPU and for TensorRT take it. Implements `Layout`. Make it with `pack`."""

    sizes: PassSizes
    past_lengths: NDArray[np.int64]  # [prefixes]
    runs: TokenRuns
    read: NDArray[np.int64]  # [results] index of the token of each
    embeddings: EmbeddingsForm
    positions: NDArray[np.int64]  # [tokens]
    # Prefix, item of the prefix, token of the item: each [tokens].
    places: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

    def rounded_sizes(self, *, prefill: bool = False) -> PassSizes:
        """See `Layout.rounded_sizes`."""
        return rounded_packed(self.sizes)

    def inputs(self, sizes: PassSizes) -> Mapping[str, HostArray]:
        """See `Layout.inputs`."""
        prefix, item, token = self.places
        row = prefix * sizes.rows + item
        token_slots = row * sizes.row_tokens + token
        slots = np.zeros((sizes.prefixes, sizes.rows, sizes.row_tokens), np.int64)
        # Padding is the item's own first token: one of another item whose numbers are none would make them none here.
        first = self.runs.offsets[:-1]
        slots.reshape(-1, sizes.row_tokens)[row[first]] = first[:, None]
        slots.reshape(-1)[token_slots] = np.arange(len(token_slots))
        ids = self.runs.ids
        embedded = ids == EMBEDDED
        rows = np.where(embedded, np.cumsum(embedded) - 1, -1)
        by_token = (sizes.tokens,)
        return {
            "input_ids": HostArray.padded(by_token, np.where(embedded, 0, ids)),
            "position_ids": HostArray.padded(by_token, self.positions),
            "token_slots": HostArray.padded(by_token, token_slots),
            "slots": HostArray.padded(slots.shape, slots),
            "past_lengths": HostArray.padded((sizes.prefixes,), self.past_lengths),
            "last_tokens": HostArray.padded((sizes.items_total,), self.read),
            "embedding_rows": HostArray.padded(by_token, rows, -1),
            "embeddings": self.embeddings.input(self.runs.blocks, sizes.embedding_count),
        }


def pack(batch: PrefixBatch, embeddings: EmbeddingsForm) -> Packed:
    """Lays the runs out in order."""
    runs, owner = batch.runs, batch.run_prefix
    assert runs.table is None, "graphs of packed tokens take embeddings with each pass"
    assert not embeddings.first_row, "there is no table"
    lengths = runs.lengths
    assert len(runs) > 0
    assert lengths.min() > 0
    assert np.all(np.diff(owner) >= 0)
    past_lengths = batch.past_lengths
    prefix, token = np.repeat(owner, lengths), places_within(lengths)
    return Packed(
        sizes_of(batch),
        past_lengths,
        runs,
        batch.read_tokens,
        embeddings,
        past_lengths[prefix] + token,
        (prefix, np.repeat(rank_within(owner), lengths), token),
    )


def step_inputs(tokens: NDArray[np.int64], past_lengths: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
    """Lays out a token of each prefix [prefixes], as `pack` does a run of one token; without embeddings."""
    place = np.arange(len(tokens))
    return {
        "input_ids": tokens,
        "position_ids": past_lengths,
        "token_slots": place,
        "slots": place[:, None, None],
        "past_lengths": past_lengths,
        "last_tokens": place,
    }


def sizes_of(batch: PrefixBatch) -> PassSizes:
    """Finds the least sizes that hold a batch when it is packed."""
    return PassSizes(
        prefixes=len(batch.prefixes),
        rows=int(np.bincount(batch.run_prefix).max()),
        row_tokens=int(batch.runs.lengths.max()),
        past=int(batch.past_lengths.max()),
        tokens=len(batch.runs.ids),
        items_total=len(batch.read_tokens),
        embedding_count=max(1, batch.runs.sent),
    )


def rounded_packed(sizes: PassSizes) -> PassSizes:
    """Rounds to sizes that come again. An item is not padded to a whole line: each slot of it is computed."""
    return replace(
        sizes,
        prefixes=rounded(sizes.prefixes),
        rows=rounded(sizes.rows),
        row_tokens=sizes.row_tokens if sizes.row_tokens <= LINE else lines(sizes.row_tokens),
        past=lines(sizes.past),
        tokens=rounded(sizes.tokens),
        items_total=rounded(sizes.items_total),
        embedding_count=rounded(sizes.embedding_count),
    )


def axes_of(sizes: PassSizes) -> dict[str, int]:
    """Names the sizes as graphs of packed tokens name their axes."""
    return {
        "prefixes": sizes.prefixes,
        "items": sizes.rows,
        "item_tokens": sizes.row_tokens,
        "past": sizes.past,
        "tokens": sizes.tokens,
        "items_total": sizes.items_total,
        "embedding_count": sizes.embedding_count,
    }


def rank_within(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts, for each run, the runs of its prefix before it; owners do not decrease. [runs]"""
    index = np.arange(len(owner))
    first = np.concatenate([[True], owner[1:] != owner[:-1]])
    result: NDArray[np.int64] = index - np.maximum.accumulate(np.where(first, index, 0))
    return result
