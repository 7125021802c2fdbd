"""The token at which an item is read, where that is not its last one.

A classification head of transformers answers at the last token that is not its pad token, whether padding was meant or
not: if end-of-text is the pad token too, at the token before it. No decoder's token sees a later one, so the tokens
behind the one that is read change nothing and are left out.
"""

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import offsets_of
from rankport.protos.errors import InvalidRequest
from rankport.runtime.tokens import TokenRuns, places_within


def up_to_read_token(runs: TokenRuns, pad_token: int | None, places: NDArray[np.int64]) -> TokenRuns:
    """Leaves out the pad tokens at the end of each run; `places` [runs] name the items.

    Runs with embedding tokens stay whole: transformers sees no ids then, and reads the last token.

    Raises:
        InvalidRequest: an item is nothing but pad tokens, so that the answer would be read in the prefix.
    """
    if pad_token is None or not len(runs):
        return runs
    padded = runs.ids[runs.offsets[1:] - 1] == pad_token
    if runs.embedded is not None:
        padded &= np.diff(runs.embedded) == 0
    if not padded.any():
        return runs
    lengths = runs.lengths
    place = places_within(lengths)
    last = np.maximum.reduceat(np.where(runs.ids == pad_token, 0, place + 1), runs.offsets[:-1])
    kept = np.where(padded, last, lengths)
    if not kept.all():
        raise InvalidRequest(
            f"item {places[np.argmin(kept)]}: is nothing but token {pad_token}, the pad token, which the "
            "classification head passes over: leave the item out, or give it text"
        )
    ids = runs.ids[place < np.repeat(kept, lengths)]
    return TokenRuns(ids, offsets_of(kept), runs.embedded, runs.blocks, runs.table)
