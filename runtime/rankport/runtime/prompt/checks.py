"""Checks of token ids and embedding tokens against a bundle; each returns its one canonical form.

`where` names the part of the request in the message: "prefix", "item 3".
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_run, checked_text, is_chat, is_id_run
from rankport.protos.columns import Embeddings, RaggedIds
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Prefix
from rankport.protos.wording import amiss, listed, type_told


def field_texts(prefix: str | Mapping[str, str], fields: Sequence[str]) -> list[str]:
    """Takes the texts of a prompt's fields, in order: a str fills the only one, a mapping gives exactly these.

    Of a prompt without fields "" is none of them, as {} is.

    Raises:
        InvalidRequest: fields are missing or unknown, or a value is malformed.
    """
    if isinstance(prefix, str) and not fields:
        if prefix:
            raise InvalidRequest('prefix: a text, but the prompt has no fields: give ""')
        return []
    if isinstance(prefix, str):
        if len(fields) != 1:
            raise InvalidRequest(
                f"prefix: one str, but the prompt has {fields_told(fields)}: "
                "give each by name (--field NAME=TEXT)"
            )
        prefix = {fields[0]: prefix}
    missing = [name for name in fields if name not in prefix]
    unknown = [name for name in prefix if name not in fields]
    if missing or unknown:
        raise InvalidRequest(
            f"prefix: fields {amiss(missing, unknown)}: the prompt has {fields_told(fields)}"
        )
    return [checked_text(prefix[name], f"prefix field {name!r}") for name in fields]


def fields_told(fields: Sequence[str]) -> str:
    """Says which fields a prompt has."""
    return f"the fields {listed(fields)}" if fields else "no fields"


def refuse_chat(prefix: Prefix, fields: Sequence[str]) -> None:
    """Raises `InvalidRequest` for the messages of a chat, where a prompt has these fields and takes none."""
    if is_chat(prefix):
        raise InvalidRequest(
            f"prefix: messages of a chat, and the bundle takes none: its prompt has {fields_told(fields)} "
            "(export a generator with --prompt chat)"
        )


def checked_ids(value: object, vocab_size: int, where: str) -> NDArray[np.int64]:
    """Takes token ids [tokens] of a sequence of ints or an integer array, each from 0 to `vocab_size` - 1.

    Raises:
        InvalidRequest: another type, or an id outside the vocabulary; the message has id and position.
    """
    if not is_id_run(value):
        raise InvalidRequest(f"{where} is {type_told(value)}; give text or token ids")
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


def checked_columns(runs: RaggedIds, vocab_size: int, places: NDArray[np.int64]) -> RaggedIds:
    """Takes runs of token ids, each id from 0 to `vocab_size` - 1; `places` name the items.

    Raises:
        InvalidRequest: an id outside the vocabulary; the message has item, id and position.
    """
    ids = runs.ids
    if len(ids) and (ids.min() < 0 or ids.max() >= vocab_size):
        wrong = int(np.flatnonzero((ids < 0) | (ids >= vocab_size))[0])
        item = int(np.searchsorted(runs.offsets, wrong, side="right")) - 1
        checked_ids(runs.run(item), vocab_size, f"item {places[item]}")
    return runs


def refuse_unknown(
    runs: RaggedIds, vocab_size: int, where: Callable[[int], str], decode: Callable[[list[int]], str]
) -> None:
    """Refuses a token that the model has no row for: a tokenizer may know more (a pruned vocabulary, say).

    Raises:
        InvalidRequest: an id of `vocab_size` or more; `where` names the run in the message.
    """
    if len(runs.ids) and runs.ids.max() >= vocab_size:
        place = int(np.argmax(runs.ids >= vocab_size))
        token = int(runs.ids[place])
        run = int(np.searchsorted(runs.offsets, place, side="right")) - 1
        raise InvalidRequest(
            f"{where(run)}: holds token {token}, {decode([token])!r}, outside the model's vocabulary 0 to "
            f"{vocab_size - 1}: leave it out"
        )


def checked_rows(
    values: Embeddings, places: NDArray[np.int64], tokens: int, hidden_size: int
) -> NDArray[np.floating]:
    """Takes embedding tokens as rows [items * tokens, hidden_size], finite in float32; `places` name the items.

    They are float16 or float32, and nobody else's to write to: what the caller may still change is copied.

    Raises:
        InvalidRequest: another shape, or a value that is not finite in float32.
    """
    if isinstance(values, np.ndarray) and values.shape[1:] == (tokens, hidden_size):
        rows = _own_rows(values)
        if _all_finite(rows):
            return rows.reshape(-1, hidden_size)
    for place, value in zip(places, values, strict=True):
        _check_embeddings(value, tokens, hidden_size, f"item {place}")
    # All are right by themselves: they only differ in type.
    return np.concatenate([_own_rows(value) for value in values])


def _own_rows(values: NDArray[np.floating]) -> NDArray[np.floating]:
    if values.dtype in (np.float16, np.float32):
        return values.copy() if values.flags.writeable else values
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is found
        return values.astype(np.float32)


_INFINITIES: dict[int, tuple[int, int]] = {2: (0x7C00, 0xFC00), 4: (0x7F80_0000, 0xFF80_0000)}
"""The bits of infinity and of its negative (IEEE 754), by the bytes of a number."""


def _all_finite(values: NDArray[np.floating]) -> bool:
    """Compares bits as integers: within a sign they grow with the number, to infinity and then NaN."""
    size = values.dtype.itemsize
    infinity, negative = _INFINITIES[size]
    bits = np.ascontiguousarray(values)
    if not bits.size:
        return True
    # Signed, the negative ones are below all others; unsigned, above.
    return int(bits.view(f"i{size}").max()) < infinity and int(bits.view(f"u{size}").max()) < negative


def _check_embeddings(value: NDArray[np.floating], tokens: int, hidden_size: int, where: str) -> None:
    if value.shape != (tokens, hidden_size):
        raise InvalidRequest(
            f"{where}: embedding tokens of shape {list(value.shape)}, "
            f"the bundle takes [{tokens}, {hidden_size}]"
        )
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is found below
        finite = np.isfinite(value.astype(np.float32))
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidRequest(
            f"{where}: embedding tokens hold {value[row, column]} at [{row}, {column}]: "
            "must be finite in float32"
        )
