"""The objective of grounding: next-token prediction over pairs in both directions, on a frozen model.

A pair makes two sequences, [BOS] text tokens and [BOS] tokens text; in each, the second part is predicted from the
first (and from itself so far). [BOS] only if the config names one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tokenizers
import torch
from torch import Tensor

from rankport.exporters.vocabulary.grounding.pairs import Pair
from rankport.exporters.vocabulary.grounding.trainable_rows import TrainableRows
from rankport.exporters.vocabulary.new_rows import NewRows
from rankport.protos.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A pair as ids."""

    text: tuple[int, ...]
    tokens: tuple[int, ...]  # new rows
    cut: bool = False  # its text was longer


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded on the right."""

    ids: Tensor  # [sequences, length] int64
    mask: Tensor  # [sequences, length] int64
    predicted: Tensor  # [sequences, length] bool


def encode_pairs(
    pairs: Sequence[Pair], tokenizer: tokenizers.Tokenizer, rows: NewRows, max_text_tokens: int
) -> list[EncodedPair]:
    """Texts cut at `max_text_tokens`. InvalidRequest for a token that is none of the new ones, or an empty text."""
    texts = tokenizer.encode_batch([pair.text for pair in pairs], add_special_tokens=False)
    encoded = []
    for number, (pair, text) in enumerate(zip(pairs, texts, strict=True), 1):
        if not text.ids:
            raise InvalidRequest(f"--pairs: pair {number} has text {pair.text!r}, which has no tokens")
        ids = tuple(_new_id(token, number, tokenizer, rows) for token in pair.tokens)
        kept = tuple(text.ids[:max_text_tokens])
        encoded.append(EncodedPair(kept, ids, len(kept) < len(text.ids)))
    return encoded


def text_to_tokens(pairs: Sequence[EncodedPair], start: int | None) -> Batch:
    """Sequences that predict the new tokens from the text. `start` is the id of [BOS], if there is one."""
    return _batch([(pair.text, pair.tokens) for pair in pairs], start)


def tokens_to_text(pairs: Sequence[EncodedPair], start: int | None) -> Batch:
    """Sequences that predict the text from the new tokens."""
    return _batch([(pair.tokens, pair.text) for pair in pairs], start)


def batches(
    pairs: Sequence[EncodedPair], size: int, rng: np.random.Generator | None
) -> Iterator[list[EncodedPair]]:
    """Deals all pairs once, of like length together, batches in random order; without `rng` in order of length."""
    tie = np.zeros(len(pairs)) if rng is None else rng.random(len(pairs))
    order = np.lexsort((tie, np.array([len(pair.text) for pair in pairs])))
    starts = np.arange(0, len(pairs), size)
    for start in starts if rng is None else rng.permutation(starts):
        yield [pairs[row] for row in order[start : start + size]]


@torch.no_grad()
def held_out_losses(
    model: TrainableRows, pairs: Sequence[EncodedPair], start: int | None, size: int
) -> tuple[float, float]:
    """Measures mean negative log-likelihood in nats a predicted token: text -> tokens, tokens -> text."""
    totals, counts = [0.0, 0.0], [0, 0]
    for part in batches(pairs, size, None):
        for way, batch in enumerate((text_to_tokens(part, start), tokens_to_text(part, start))):
            likelihoods = model.log_probabilities(batch.ids, batch.mask, batch.predicted)
            totals[way] -= float(likelihoods.double().sum())
            counts[way] += len(likelihoods)
    return totals[0] / counts[0], totals[1] / counts[1]


def _new_id(token: str, number: int, tokenizer: tokenizers.Tokenizer, rows: NewRows) -> int:
    row = tokenizer.token_to_id(token)
    if row is None or not rows.first <= row < rows.first + rows.count:
        known = "is not in the tokenizer" if row is None else f"has id {row}"
        raise InvalidRequest(
            f"--pairs: pair {number} names {token!r}, which {known}; new tokens have ids {rows.first} to "
            f"{rows.first + rows.count - 1}: add it with --add-tokens"
        )
    return int(row)


def _batch(parts: list[tuple[tuple[int, ...], tuple[int, ...]]], start: int | None) -> Batch:
    head = () if start is None else (start,)
    length = len(head) + max(len(given) + len(wanted) for given, wanted in parts)
    ids = torch.zeros(len(parts), length, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    predicted = torch.zeros_like(ids, dtype=torch.bool)
    for row, (given, wanted) in enumerate(parts):
        sequence = (*head, *given, *wanted)
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
        predicted[row, len(head) + len(given) : len(sequence)] = True
    return Batch(ids, mask, predicted)
