"""Checks of the arguments that `Ranker`, `ItemEncoder` and the clients share: one rule and one wording each.

Owns what is known without a model; vocabulary, limits and shapes are checked where the bundle is. `where` names
the part of the request in the message: "prefix", "item 3".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, NoReturn, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Key, Messages
from rankport.protos.wording import listed, type_told

T = TypeVar("T")

INT64 = np.iinfo(np.int64)
"""Whole numbers that a message and an array hold."""
# Clocks and gRPC cannot wait for ever in numbers; nobody waits three years.
_NO_LIMIT_S = 1e8
_ITEM = re.compile(r"^item \d+:? ")


class ItemForm(Enum):
    """Forms that an item is given in."""

    TEXT = "text"
    KEY = "key"
    EMBEDDINGS = "embeddings"
    TOKEN_IDS = "token_ids"


def checked_timeout_s(timeout_s: object) -> float | None:
    """Takes seconds, 0 or more; None, infinite and more than 1e8 are no limit. Raises `InvalidRequest` otherwise."""
    if timeout_s is None:
        return None
    number = isinstance(timeout_s, int | float | np.integer | np.floating) and not isinstance(timeout_s, bool)
    if not number or not timeout_s >= 0:  # type: ignore[operator]  # NaN is not
        raise InvalidRequest(
            f"timeout_s is {timeout_s!r:.40}: it must be 0 or more seconds, or None for no limit"
        )
    return None if timeout_s > _NO_LIMIT_S else float(timeout_s)  # type: ignore[operator, arg-type]


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raises `InvalidRequest` for a value that is none of the choices, as a server does of one over gRPC."""
    if value not in choices:
        raise InvalidRequest(f"{name} is {value!r:.60}; give one of {', '.join(choices)}")


def checked_top_k(top_k: object) -> int | None:
    """Takes how many of the best to keep, 1 or more; None: all. Raises `InvalidRequest` otherwise."""
    if top_k is None:
        return None
    if isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or top_k < 1:
        raise InvalidRequest(f"top_k is {top_k!r:.40}: it must be 1 or more items, or None for all")
    return min(int(top_k), INT64.max)


def checked_flag(value: object, name: str) -> bool:
    """Takes True or False. Raises `InvalidRequest` otherwise: any text is true to Python."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidRequest(f"{name} is {value!r:.40}: give True or False")
    return bool(value)


def checked_count(count: object, name: str) -> int:
    """Takes a whole number, 1 or more. Raises `InvalidRequest` otherwise."""
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise InvalidRequest(f"{name} is {count!r:.40}: it must be a whole number, at least 1")
    return int(count)


def number_array(values: Any) -> NDArray[Any]:
    """Makes an array. Whole numbers stay whole where one needs all 64 bits, of which numpy alone makes floats, and a
    list of numbers with a bool among them is of objects: numpy makes 0 or 1 of it.

    Raises ValueError for ragged values.
    """
    array = np.asarray(values)
    if (
        array.dtype.kind in "iuf"
        and isinstance(values, list | tuple)
        and not {bool, np.bool_}.isdisjoint(map(type, values))
    ):
        return np.array(values, object)
    if (
        array.dtype.kind == "f"
        and isinstance(values, list | tuple)
        and values
        and all(map(_is_whole, values))
        and min(values) >= 0  # of another numpy before 2 would make a large one
    ):
        return np.array(values, np.uint64)
    return array


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer)


def checked_items(items: Iterable[T], name: str = "items") -> Sequence[T]:
    """Takes items, drawn once where they are a generator. Raises `InvalidRequest` for one item as the list."""
    if isinstance(items, list | tuple):
        return items
    if isinstance(items, str | bytes | bytearray | Mapping | Key) or not isinstance(items, Iterable):
        raise InvalidRequest(f"{name} is {type_told(items)}; give a list of items")
    if isinstance(items, np.ndarray) and not items.ndim:
        raise InvalidRequest(f"{name} is an array without axes; give a list of items")
    return list(items)


def check_prefix(prefix: object) -> None:
    """Raises `InvalidRequest` unless it is text, fields, a run of token ids or a chat, whatever their values."""
    if not isinstance(prefix, str | Mapping) and not is_id_run(prefix):
        raise InvalidRequest(f"prefix is {type_told(prefix)}; give text, fields by name, or token ids")


def is_chat(prefix: object) -> TypeGuard[Messages]:
    """Says whether a prefix is meant as the messages of a chat: a list that begins with a mapping."""
    return isinstance(prefix, list | tuple) and bool(prefix) and isinstance(prefix[0], Mapping)


def checked_messages(messages: Messages) -> list[tuple[str, str]]:
    """Takes the messages of a chat as (role, content); raises `InvalidRequest` with the index of what is none."""
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: object, where: str) -> tuple[str, str]:
    if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
        has = (
            f": has {listed(list(map(str, message)))}"
            if isinstance(message, Mapping)
            else f" is {type_told(message)}"
        )
        raise InvalidRequest(f'{where}{has}: give {{"role": text, "content": text}}')
    role, content = (checked_text(message[name], f"{where}.{name}") for name in ("role", "content"))
    return role, content


def item_form(item: object, where: str) -> ItemForm:
    """Tells what an item is given as; `InvalidRequest` if it is none of the forms."""
    if isinstance(item, str):
        return ItemForm.TEXT
    if isinstance(item, Key):
        return ItemForm.KEY
    if is_embedding(item):
        return ItemForm.EMBEDDINGS
    if is_id_run(item):
        return ItemForm.TOKEN_IDS
    what = f"an array of {item.dtype}" if isinstance(item, np.ndarray) else type_told(item)
    raise InvalidRequest(f"{where} is {what}; give text, token ids, a float array [k, hidden] or a Key")


def is_embedding(value: object) -> TypeGuard[NDArray[np.floating]]:
    """Says whether an item is meant as embedding tokens: a float array."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def is_id_run(value: object) -> TypeGuard[Sequence[int] | NDArray[np.integer]]:
    """Says whether a value is meant as token ids: a sequence that is no text, or an integer array."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iu"
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)


def checked_run(
    value: Sequence[Any] | NDArray[np.integer], where: str
) -> Sequence[int] | NDArray[np.integer]:
    """Takes `value` if it is ints only [tokens]; raises `InvalidRequest` with the position of what is none."""
    if isinstance(value, np.ndarray):
        if value.ndim != 1:
            _refuse_array(value, where)
        return value
    # The common case is checked without a loop of Python steps: 10,000 items may bring a million ids.
    if set(map(type, value)) <= {int}:
        return value
    for position, token in enumerate(value):
        # bool is an int to Python, but never meant as a token.
        if type(token) is not int and not isinstance(token, np.integer):
            raise InvalidRequest(
                f"{where}: token id {token!r:.40} at position {position} is {type_told(token)}: "
                "must be an int (embedding tokens are a numpy array [k, hidden])"
            )
    return value


def checked_text(value: object, where: str) -> str:
    """Takes `value` if it is a str that UTF-8 can write; raises `InvalidRequest` otherwise."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{where} is {type_told(value)}; give text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{where}: {value[error.start]!r} at character {error.start} is half of a character: "
                "give it whole, or decode the source with errors='replace'"
            ) from None
    return value


def of_single_item(message: str) -> str:
    """Strips "item 0" off the front of a message: for one item that is told by its id, its place says nothing."""
    return _ITEM.sub("", message)


def _refuse_array(value: NDArray[Any], where: str) -> NoReturn:
    raise InvalidRequest(
        f"{where}: an array of dtype {value.dtype} and shape {list(value.shape)}: "
        "token ids are integers [tokens], embedding tokens floats [k, hidden]"
    )
