"""Conversion of prefix and items to messages and back. Items of one form travel as a column, mixed ones one by one."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import (
    ItemForm,
    check_prefix,
    checked_messages,
    checked_text,
    is_chat,
    is_embedding,
    is_id_run,
)
from rankport.protos.columns import Column, ItemColumns, RaggedIds
from rankport.protos.errors import InvalidRequest
from rankport.protos.messages.tensors import ids_message, ragged_ids, tensor_array, tensor_message
from rankport.protos.types import Item, Key, Prefix, Query
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.wording import counted


def prefix_message(prefix: Prefix) -> pb.Prefix:
    """Writes a prefix as a message; `InvalidRequest` if it is neither text, fields, token ids nor a chat."""
    check_prefix(prefix)
    if isinstance(prefix, str):
        return pb.Prefix(text=checked_text(prefix, "prefix"))
    if isinstance(prefix, Mapping):
        values = {
            checked_text(name, "prefix field"): checked_text(value, f"prefix field {name!r}")
            for name, value in prefix.items()
        }
        return pb.Prefix(fields=pb.PrefixFields(values=values))
    if is_chat(prefix):
        said = checked_messages(prefix)
        messages = [pb.ChatMessage(role=role, content=content) for role, content in said]
        return pb.Prefix(chat=pb.Chat(messages=messages))
    return pb.Prefix(token_ids=ids_message(prefix, "prefix"))  # type: ignore[arg-type]  # the last form


def query_message(query: Query) -> pb.Prefix:
    """Writes a prefix, or what stands for it where two towers score; raises as `prefix_message`."""
    if isinstance(query, Key):
        return pb.Prefix(key=checked_text(query.id, "prefix"))
    if isinstance(query, np.ndarray) and is_embedding(query):
        return pb.Prefix(embeddings=tensor_message(query, "prefix"))
    return prefix_message(query)  # type: ignore[arg-type]  # an array is of ids then


def query_value(message: pb.Prefix) -> Query:
    """Reads what `query_message` wrote; raises as `prefix_value`."""
    match message.WhichOneof("form"):
        case "key":
            return Key(message.key)
        case "embeddings":
            return tensor_array(message.embeddings, "prefix.embeddings")
        case _:
            return prefix_value(message)


def prefix_value(message: pb.Prefix) -> Prefix:
    """Reads the prefix of a message; `InvalidRequest` if no form is set."""
    match message.WhichOneof("form"):
        case "text":
            return message.text
        case "fields":
            return dict(message.fields.values)
        case "token_ids":
            return list(message.token_ids.ids)
        case "chat":
            if not message.chat.messages:
                raise InvalidRequest("prefix.chat has no messages: give one of role 'user'")
            return [{"role": each.role, "content": each.content} for each in message.chat.messages]
        case _:
            raise InvalidRequest("prefix is not set; give text, fields, token_ids or chat")


def items_message(items: Iterable[Item] | ItemColumns, field: str = "items") -> pb.Items:
    """Writes items as a message, in one column if they are all of one form.

    Raises:
        InvalidRequest: something that is no item (the message names its index), or one item as the list.
    """
    columns = ItemColumns.of(items, field)
    form = columns.only_form
    if form is not None and not _has_odd_shapes(columns) and not _has_some_texts(columns):
        return _column_message(form, columns)
    if not columns.count:
        return pb.Items(texts=pb.Strings())
    return pb.Items(mixed=pb.MixedItems(items=map(_item_message, columns, range(columns.count))))


def items_value(message: pb.Items, field: str = "items") -> ItemColumns:
    """Reads the items of a message; arrays are read-only views of its bytes.

    Raises:
        InvalidRequest: no form is set, or an array or run of ids is malformed; names field and item index.
    """
    match message.WhichOneof("form"):
        case "texts":
            return _one_column("texts", message.texts.values[:])
        case "keys":
            return _one_column("keys", message.keys.values[:])
        case "embeddings":
            return _one_column("embeddings", _stacked(message.embeddings, f"{field}.embeddings"))
        case "token_ids":
            return _one_column("token_ids", ragged_ids(message.token_ids, f"{field}.token_ids"))
        case "keyed_texts":
            return _keyed_texts(message.keyed_texts, field)
        case "mixed":
            items = [_item_value(item, f"{field}[{index}]") for index, item in enumerate(message.mixed.items)]
            return ItemColumns.of(items)
        case _:
            raise InvalidRequest(
                f"{field} is not set; give texts, keys, keyed_texts, embeddings, token_ids or mixed"
            )


def _one_column(name: str, values: Any) -> ItemColumns:
    return ItemColumns(len(values), **{name: Column(values, np.arange(len(values)))})


def _has_odd_shapes(columns: ItemColumns) -> bool:
    return columns.embeddings is not None and not isinstance(columns.embeddings.values, np.ndarray)


def _has_some_texts(columns: ItemColumns) -> bool:
    """Says whether some keys have a text and others have none."""
    texts, keys = columns.key_texts, columns.keys
    return texts is not None and keys is not None and len(texts.places) < len(keys.places)


def _keyed_texts(message: pb.KeyedTexts, field: str) -> ItemColumns:
    keys, texts = message.keys[:], message.texts[:]
    if len(keys) != len(texts):
        raise InvalidRequest(
            f"{field}.keyed_texts has {counted(len(keys), 'key')} and {counted(len(texts), 'text')}: one a key"
        )
    places = np.arange(len(keys))
    return ItemColumns(len(keys), keys=Column(keys, places), key_texts=Column(texts, places))


def _column_message(form: ItemForm, columns: ItemColumns) -> pb.Items:
    column = columns.column(form)
    assert column is not None
    match form:
        case ItemForm.TEXT:
            return pb.Items(texts=pb.Strings(values=column.values))
        case ItemForm.KEY:
            if columns.key_texts is not None:
                return pb.Items(keyed_texts=pb.KeyedTexts(keys=column.values, texts=columns.key_texts.values))
            return pb.Items(keys=pb.Strings(values=column.values))
        case ItemForm.TOKEN_IDS:
            runs: RaggedIds = column.values
            return pb.Items(token_ids=pb.RaggedTokenIds(ids=runs.ids, lengths=runs.lengths))
        case ItemForm.EMBEDDINGS:
            return pb.Items(embeddings=tensor_message(column.values, "items"))


def _item_message(item: Item, index: int) -> pb.Item:
    where = f"item {index}"
    if isinstance(item, str):
        return pb.Item(text=item)
    if isinstance(item, Key):
        if item.text is None:
            return pb.Item(key=item.id)
        return pb.Item(keyed_text=pb.KeyedText(key=item.id, text=item.text))
    if is_embedding(item):
        return pb.Item(embeddings=tensor_message(item, where))
    assert is_id_run(item), item
    return pb.Item(token_ids=ids_message(item, where))


def _item_value(message: pb.Item, field: str) -> Item:
    match message.WhichOneof("form"):
        case "text":
            return message.text
        case "key":
            return Key(message.key)
        case "keyed_text":
            return Key(message.keyed_text.key, message.keyed_text.text)
        case "token_ids":
            return np.array(message.token_ids.ids, np.int64)
        case "embeddings":
            return tensor_array(message.embeddings, f"{field}.embeddings")
        case _:
            raise InvalidRequest(f"{field} is not set; give text, token_ids, embeddings, key or keyed_text")


def _stacked(tensor: pb.Tensor, field: str) -> NDArray[np.floating]:
    array = tensor_array(tensor, field)
    if array.ndim != 3:
        raise InvalidRequest(f"{field}.shape is {list(array.shape)}; expected [items, k, hidden]")
    return array
