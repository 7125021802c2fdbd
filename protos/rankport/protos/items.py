"""Prefix and items <-> their messages. Items of one form travel as a column, mixed ones as a message each."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.protos.tensors import ids_message, ragged_arrays, ragged_message, tensor_array, tensor_message
from rankport.protos.types import Item, Key, Prefix
from rankport.protos.v1 import rankport_pb2 as pb


class _Form(Enum):
    TEXT = "text"
    KEY = "key"
    EMBEDDINGS = "embeddings"
    TOKEN_IDS = "token_ids"


def prefix_message(prefix: Prefix) -> pb.Prefix:
    """A prefix as a message; `InvalidRequest` if it is neither text, fields nor token ids."""
    if isinstance(prefix, str):
        return pb.Prefix(text=_text(prefix, "prefix"))
    if isinstance(prefix, Mapping):
        values = {_text(name, "prefix"): _text(value, f"prefix[{name!r}]") for name, value in prefix.items()}
        return pb.Prefix(fields=pb.PrefixFields(values=values))
    if _is_run(prefix):
        return pb.Prefix(token_ids=ids_message(prefix, "prefix"))
    raise InvalidRequest(f"prefix is a {type(prefix).__name__}; give text, fields by name, or token ids")


def prefix_value(message: pb.Prefix) -> Prefix:
    """The prefix of a message; `InvalidRequest` if no form is set."""
    match message.WhichOneof("form"):
        case "text":
            return message.text
        case "fields":
            return dict(message.fields.values)
        case "token_ids":
            return list(message.token_ids.ids)
        case _:
            raise InvalidRequest("prefix is not set; give text, fields or token_ids")


def items_message(items: Sequence[Item], field: str = "items") -> pb.Items:
    """Items as a message, in one column if they are all of one form.

    Raises:
        InvalidRequest: something that is no item (the message names its index), or one item as the list.
    """
    if isinstance(items, str | bytes | Mapping | Key):
        raise InvalidRequest(f"{field} is a {type(items).__name__}; give a list of items")
    forms = [_form(item, f"{field}[{index}]") for index, item in enumerate(items)]
    if len(set(forms)) > 1:
        return pb.Items(mixed=_mixed(items, forms, field))
    return _column(forms[0] if forms else _Form.TEXT, items, field)


def items_value(message: pb.Items, field: str = "items") -> list[Item]:
    """The items of a message; arrays are read-only views of its bytes.

    Raises:
        InvalidRequest: no form is set, or an array or run of ids is malformed; names field and item index.
    """
    match message.WhichOneof("form"):
        case "texts":
            return list(message.texts.values)
        case "keys":
            return [Key(id) for id in message.keys.values]
        case "embeddings":
            return list(_stacked(message.embeddings, f"{field}.embeddings"))
        case "token_ids":
            return list(ragged_arrays(message.token_ids, f"{field}.token_ids"))
        case "mixed":
            return [_item_value(item, f"{field}[{index}]") for index, item in enumerate(message.mixed.items)]
        case _:
            raise InvalidRequest(f"{field} is not set; give texts, keys, embeddings, token_ids or mixed")


def _form(item: Item, field: str) -> _Form:
    if isinstance(item, str):
        return _Form.TEXT
    if isinstance(item, Key):
        return _Form.KEY
    if isinstance(item, np.ndarray) and item.dtype.kind == "f":
        return _Form.EMBEDDINGS
    if _is_run(item):
        return _Form.TOKEN_IDS
    what = f"array of {item.dtype}" if isinstance(item, np.ndarray) else type(item).__name__
    raise InvalidRequest(
        f"{field} is of type {what}; give text, token ids, a float array [k, hidden] or a Key"
    )


def _is_run(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iu"
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)


def _column(form: _Form, items: Sequence[Any], field: str) -> pb.Items:
    match form:
        case _Form.TEXT:
            return pb.Items(texts=_strings(items, field))
        case _Form.KEY:
            return pb.Items(keys=_strings([key.id for key in items], field))
        case _Form.TOKEN_IDS:
            return pb.Items(token_ids=ragged_message(items, field))
        case _Form.EMBEDDINGS:
            if len({(array.shape, array.dtype) for array in items}) > 1 or items[0].ndim != 2:
                return pb.Items(mixed=_mixed(items, [form] * len(items), field))
            return pb.Items(embeddings=tensor_message(np.stack(items), field))


def _mixed(items: Sequence[Item], forms: Sequence[_Form], field: str) -> pb.MixedItems:
    messages = (
        _item_message(item, form, f"{field}[{index}]")
        for index, (item, form) in enumerate(zip(items, forms, strict=True))
    )
    return pb.MixedItems(items=messages)


def _item_message(item: Any, form: _Form, field: str) -> pb.Item:
    match form:
        case _Form.TEXT:
            return pb.Item(text=_text(item, field))
        case _Form.KEY:
            return pb.Item(key=_text(item.id, field))
        case _Form.TOKEN_IDS:
            return pb.Item(token_ids=ids_message(item, field))
        case _Form.EMBEDDINGS:
            return pb.Item(embeddings=tensor_message(item, field))


def _item_value(message: pb.Item, field: str) -> Item:
    match message.WhichOneof("form"):
        case "text":
            return message.text
        case "key":
            return Key(message.key)
        case "token_ids":
            return np.array(message.token_ids.ids, np.int64)
        case "embeddings":
            return tensor_array(message.embeddings, f"{field}.embeddings")
        case _:
            raise InvalidRequest(f"{field} is not set; give text, token_ids, embeddings or key")


def _stacked(tensor: pb.Tensor, field: str) -> NDArray[np.floating]:
    array = tensor_array(tensor, field)
    if array.ndim != 3:
        raise InvalidRequest(f"{field}.shape is {list(array.shape)}; expected [items, k, hidden]")
    return array


def _strings(values: Iterable[str], field: str) -> pb.Strings:
    return pb.Strings(values=[_text(value, f"{field}[{index}]") for index, value in enumerate(values)])


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{field} is a {type(value).__name__}; give text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"{field} is not valid Unicode: {error}") from error
    return value
