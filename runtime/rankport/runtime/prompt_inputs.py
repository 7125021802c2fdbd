"""Checks of what a request brings: text, token ids, embedding tokens; each returns its one canonical form.

`where` names the part of the request in the message: "prefix", "item 3".
"""

from collections.abc import Sequence
from typing import Any, NoReturn, TypeGuard

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest


def is_embedding(value: object) -> TypeGuard[NDArray[np.floating]]:
    """Whether an item is meant as embedding tokens: a float array."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def checked_text(value: object, where: str) -> str:
    """`value` if it is a str that UTF-8 can write; raises `InvalidRequest` otherwise."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}: {type(value).__name__} is not text: must be a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{where}: {value[error.start]!r} at character {error.start} is half of a character: "
            "decode the text with errors='replace'"
        ) from None
    return value


def checked_ids(value: object, vocab_size: int, where: str) -> NDArray[np.int64]:
    """Token ids [tokens] of a sequence of ints or an integer array, each from 0 to `vocab_size` - 1.

    Raises:
        InvalidRequest: another type, or an id outside the vocabulary; the message has id and position.
    """
    if isinstance(value, np.ndarray):
        return _ids_of_array(value, vocab_size, where)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return _ids_of_sequence(value, vocab_size, where)
    raise InvalidRequest(f"{where}: {type(value).__name__} holds no token ids: must be a list of int")


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


def _ids_of_array(value: NDArray[Any], vocab_size: int, where: str) -> NDArray[np.int64]:
    if value.dtype.kind not in "iu" or value.ndim != 1:
        raise InvalidRequest(
            f"{where}: an array of dtype {value.dtype} and shape {list(value.shape)}: "
            "token ids are integers [tokens], embedding tokens floats [k, hidden]"
        )
    wrong = np.flatnonzero((value < 0) | (value >= vocab_size))
    if len(wrong):
        _refuse_id(value[wrong[0]], int(wrong[0]), vocab_size, where)
    return value.astype(np.int64)


def _ids_of_sequence(value: Sequence[Any], vocab_size: int, where: str) -> NDArray[np.int64]:
    # The common case is checked without a loop of Python steps: 10,000 items may bring a million ids.
    if value and set(map(type, value)) == {int} and min(value) >= 0 and max(value) < vocab_size:
        return np.array(value, dtype=np.int64)
    for position, token in enumerate(value):
        # bool is an int to Python, but never meant as a token.
        if type(token) is not int and not isinstance(token, np.integer):
            raise InvalidRequest(
                f"{where}: token id {token!r:.40} at position {position} is a {type(token).__name__}: "
                "must be an int (embedding tokens are a numpy array [k, hidden])"
            )
        if not 0 <= token < vocab_size:
            _refuse_id(token, position, vocab_size, where)
    return np.array(value, dtype=np.int64)


def _refuse_id(token: object, position: int, vocab_size: int, where: str) -> NoReturn:
    raise InvalidRequest(
        f"{where}: token id {token} at position {position} is outside the vocabulary: "
        f"must be 0 to {vocab_size - 1}"
    )
