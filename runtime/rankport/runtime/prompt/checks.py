"""Checks of token ids and embedding tokens against a bundle; each returns its one canonical form.

`where` names the part of the request in the message: "prefix", "item 3".
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_run, is_id_run
from rankport.protos.errors import InvalidRequest


def checked_ids(value: object, vocab_size: int, where: str) -> NDArray[np.int64]:
    """Token ids [tokens] of a sequence of ints or an integer array, each from 0 to `vocab_size` - 1.

    Raises:
        InvalidRequest: another type, or an id outside the vocabulary; the message has id and position.
    """
    if not is_id_run(value):
        raise InvalidRequest(f"{where} is a {type(value).__name__}; give text or token ids")
    run = checked_run(value, where)
    if not isinstance(run, np.ndarray):
        if run and min(run) >= 0 and max(run) < vocab_size:
            return np.array(run, dtype=np.int64)
        run = np.array(run, dtype=object)  # of any size
    wrong = np.flatnonzero((run < 0) | (run >= vocab_size))
    if len(wrong):
        raise InvalidRequest(
            f"{where}: token id {run[wrong[0]]} at position {wrong[0]} is outside the vocabulary: "
            f"must be 0 to {vocab_size - 1}"
        )
    return run.astype(np.int64)


def checked_stack(
    items: Mapping[int, NDArray[np.floating]], tokens: int, hidden_size: int
) -> NDArray[np.float32]:
    """Embedding tokens of items by index as float32 [items, tokens, hidden_size]. Raises as `checked_embeddings`."""
    shape, arrays = (tokens, hidden_size), list(items.values())
    if all(array.shape == shape for array in arrays):
        with np.errstate(over="ignore"):
            stacked = np.stack(arrays).astype(np.float32, copy=False)
        # No sum of float32 overflows float64, so it is finite unless a value is not.
        if np.isfinite(stacked.sum(dtype=np.float64)):
            return stacked
    return np.stack(
        [checked_embeddings(item, tokens, hidden_size, f"item {index}") for index, item in items.items()]
    )


def checked_embeddings(
    value: NDArray[np.floating], tokens: int, hidden_size: int, where: str
) -> NDArray[np.float32]:
    """Embedding tokens as float32 [tokens, hidden_size].

    Raises:
        InvalidRequest: another shape, or a value that is not finite in float32.
    """
    if value.shape != (tokens, hidden_size):
        raise InvalidRequest(
            f"{where}: embedding tokens of shape {list(value.shape)}, "
            f"the bundle takes [{tokens}, {hidden_size}]"
        )
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is found below
        rows = np.array(value, dtype=np.float32, order="C")  # a copy: the caller may write on meanwhile
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0]
        raise InvalidRequest(
            f"{where}: embedding tokens hold {value[row, column]} at [{row}, {column}]: "
            "must be finite in float32"
        )
    return rows
