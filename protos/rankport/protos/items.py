"""Prefix and items <-> their messages. Items of one form travel as a column, mixed ones as a message each."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import ItemForm, check_prefix, checked_items, checked_text, item_form
from rankport.protos.errors import InvalidRequest
from rankport.protos.tensors import ids_message, ragged_arrays, ragged_message, tensor_array, tensor_message
from rankport.protos.types import Item, Key, Prefix
from rankport.protos.v1 import rankport_pb2 as pb


def prefix_message(prefix: Prefix) -> pb.Prefix:
    """A prefix as a message; `InvalidRequest` if it is neither text, fields nor token ids."""
    check_prefix(prefix)
    if isinstance(prefix, str):
        return pb.Prefix(text=checked_text(prefix, "prefix"))
    if isinstance(prefix, Mapping):
        values = {
            checked_text(name, "prefix field"): checked_text(value, f"prefix field {name!r}")
            for name, value in prefix.items()
        }
        return pb.Prefix(fields=pb.PrefixFields(values=values))
    return pb.Prefix(token_ids=ids_message(prefix, "prefix"))


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


def items_message(items: Iterable[Item], field: str = "items") -> pb.Items:
    """Items as a message, in one column if they are all of one form.

    Raises:
        InvalidRequest: something that is no item (the message names its index), or one item as the list.
    """
    listed = checked_items(items, field)
    forms = [item_form(item, f"item {index}") for index, item in enumerate(listed)]
    if len(set(forms)) > 1:
        return pb.Items(mixed=_mixed(listed, forms))
    return _column(forms[0] if forms else ItemForm.TEXT, listed)


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


def _column(form: ItemForm, items: Sequence[Any]) -> pb.Items:
    match form:
        case ItemForm.TEXT:
            return pb.Items(texts=_strings(items))
        case ItemForm.KEY:
            return pb.Items(keys=_strings([key.id for key in items]))
        case ItemForm.TOKEN_IDS:
            return pb.Items(token_ids=ragged_message(items))
        case ItemForm.EMBEDDINGS:
            if len({(array.shape, array.dtype) for array in items}) > 1 or items[0].ndim != 2:
                return pb.Items(mixed=_mixed(items, [form] * len(items)))
            return pb.Items(embeddings=tensor_message(np.stack(items), "items"))


def _mixed(items: Sequence[Item], forms: Sequence[ItemForm]) -> pb.MixedItems:
    messages = (
        _item_message(item, form, f"item {index}")
        for index, (item, form) in enumerate(zip(items, forms, strict=True))
    )
    return pb.MixedItems(items=messages)


def _item_message(item: Any, form: ItemForm, where: str) -> pb.Item:
    match form:
        case ItemForm.TEXT:
            return pb.Item(text=checked_text(item, where))
        case ItemForm.KEY:
            return pb.Item(key=checked_text(item.id, where))
        case ItemForm.TOKEN_IDS:
            return pb.Item(token_ids=ids_message(item, where))
        case ItemForm.EMBEDDINGS:
            return pb.Item(embeddings=tensor_message(item, where))


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


def _strings(values: Iterable[str]) -> pb.Strings:
    return pb.Strings(values=[checked_text(value, f"item {index}") for index, value in enumerate(values)])
