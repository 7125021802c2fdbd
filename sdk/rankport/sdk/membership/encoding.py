"""Texts of an audit to embeddings: each text once, in batches of like length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rankport.protos.errors import InvalidRequest
from rankport.runtime.jobs.row_encoder import Encoder, RowEncoder
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.sdk.membership.samples import Floats

_BATCH = 64


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """Embeddings of texts."""

    rows: Floats  # [texts, dim] of several tokens one after another
    truncated: int  # texts that were cut to the encoder's limit


def encode_texts(encoder: Encoder, texts: Sequence[str], on_progress: Callable[[str], None]) -> EncodedTexts:
    """Encodes texts. Raises `InvalidRequest` for one that the encoder refuses, else as the encoder does."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    waiting = [ItemRow(place, str(place), text) for text, place in places.items()]
    waiting.sort(key=lambda row: len(row.text))
    encode_rows = RowEncoder(encoder, "truncate", max_failures_in_a_row=3)
    found = list[Floats | None]([None] * len(places))
    truncated = 0
    for start in range(0, len(waiting), _BATCH):
        batch = encode_rows.encode(waiting[start : start + _BATCH])
        if batch.bad:
            text = next(row.text for row in waiting if row.line == batch.bad[0].line)
            raise InvalidRequest(f"the encoder refuses the text {text[:60]!r}: {batch.bad[0].reason}")
        for one in batch.encoded:
            found[one.row.line] = one.tokens.astype(np.float64).ravel()
            truncated += one.truncated
        on_progress(f"encoded {min(start + _BATCH, len(waiting))} of {len(waiting)} texts")
    rows = np.stack([row for row in found if row is not None])
    return EncodedTexts(rows[[places[text] for text in texts]], truncated)
