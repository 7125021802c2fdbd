"""`ItemColumns`: the items of a request by form, a column each, from the wire to the device.

Owns what an item is given as, and the columns that a list of items is. A request of one form, the common one, is one
column: nothing is done for each item. What a bundle takes is checked where the bundle is.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import ItemForm, checked_items, checked_run, checked_text, item_form
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Item, Key

ValuesT = TypeVar("ValuesT", covariant=True)
Embeddings = NDArray[np.floating] | Sequence[NDArray[np.floating]]
"""[items, k, hidden], or as many arrays where their shapes differ."""


@dataclass(frozen=True, slots=True)
class Column(Generic[ValuesT]):
    """Items of one form, in the order of the request."""

    values: ValuesT  # [column]
    places: NDArray[np.int64]  # [column] of each in the request, ascending


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Adds up lengths to offsets: where runs begin, and the last ends. [runs + 1]"""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def lengths_of(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Takes offsets apart again. [runs]"""
    lengths: NDArray[np.int64] = offsets[1:] - offsets[:-1]  # `np.diff` takes several times as long for few
    return lengths


@dataclass(frozen=True, slots=True)
class RaggedIds:
    """Runs of token ids behind each other."""

    ids: NDArray[np.int64]  # [tokens]
    offsets: NDArray[np.int64]  # [runs + 1] of `ids`

    @classmethod
    def of_lengths(cls, ids: NDArray[np.int64], lengths: NDArray[np.int64]) -> "RaggedIds":
        """Cuts the ids into runs of these lengths. [runs]"""
        return cls(ids, offsets_of(lengths))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each run. [runs]"""
        return lengths_of(self.offsets)

    def run(self, index: int) -> NDArray[np.int64]:
        """Returns one run. [tokens]"""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """Items of one request; each is in exactly one column."""

    count: int  # of items
    texts: Column[Sequence[str]] | None = None
    keys: Column[Sequence[str]] | None = None  # of a token store
    embeddings: Column[Embeddings] | None = None
    token_ids: Column[RaggedIds] | None = None
    key_texts: Column[Sequence[str]] | None = (
        None  # to encode where the store lacks a key; of some keys or all
    )

    @classmethod
    def of(cls, items: "Iterable[Item] | ItemColumns", name: str = "items") -> "ItemColumns":
        """Sorts a list of items into columns; an array [items, k, hidden] of floats is one already.

        Raises:
            InvalidRequest: something is no item (the message has its index), or one item stands for the list `name`.
        """
        if isinstance(items, ItemColumns):
            return items
        if isinstance(items, np.ndarray) and items.ndim == 3 and items.dtype.kind == "f":
            return cls(len(items), embeddings=Column(items, np.arange(len(items))))
        listed = checked_items(items, name)
        form = _only_form(listed)
        if form is not None:
            return _in_one_column(form, listed)
        forms = [item_form(item, f"item {index}") for index, item in enumerate(listed)]
        return _in_columns(forms, listed)

    @property
    def only_form(self) -> ItemForm | None:
        """Form of all items; None where there are several forms, or no item."""
        forms = [form for form in ItemForm if self.column(form) is not None]
        return forms[0] if len(forms) == 1 else None

    def column(self, form: ItemForm) -> Column[Any] | None:
        """Returns the items of one form."""
        column: Column[Any] | None = getattr(self, _FIELDS[form])
        return column

    def take(self, places: NDArray[np.int64]) -> "ItemColumns":
        """Returns the items at these places, ascending, as a request of their own."""
        if len(places) == self.count:
            return self
        columns = {
            name: _taken(column, places)
            for name in (*_FIELDS.values(), "key_texts")
            if (column := getattr(self, name)) is not None
        }
        return ItemColumns(len(places), **{name: column for name, column in columns.items() if column})

    def part(self, start: int, stop: int) -> "ItemColumns":
        """Returns the items from `start` to before `stop` as a request of their own."""
        listed = list(self)[start:stop]
        return ItemColumns.of(listed)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Item]:
        """Yields each item as a list of them would have it."""
        items: list[Any] = [None] * self.count
        for form in ItemForm:
            column = self.column(form)
            if column is None:
                continue
            for index, place in enumerate(column.places.tolist()):
                items[place] = _item(form, column.values, index)
        if self.key_texts is not None:
            for place, text in zip(self.key_texts.places.tolist(), self.key_texts.values, strict=True):
                items[place] = Key(items[place].id, text)
        return iter(items)


def _taken(column: Column[Any], places: NDArray[np.int64]) -> Column[Any] | None:
    """Takes what a column has of some places, by their order among these; None if that is nothing."""
    order = np.searchsorted(places, column.places)
    there = np.flatnonzero(
        (order < len(places)) & (places[np.minimum(order, len(places) - 1)] == column.places)
    )
    if not len(there):
        return None
    return Column(_values_at(column.values, there), order[there])


def _values_at(values: Any, there: NDArray[np.int64]) -> Any:
    if isinstance(values, np.ndarray):
        return values[there]
    if isinstance(values, RaggedIds):
        runs = [values.run(index) for index in there.tolist()]
        return RaggedIds.of_lengths(np.concatenate(runs), values.lengths[there])
    return [values[index] for index in there.tolist()]


_FIELDS = {
    ItemForm.TEXT: "texts",
    ItemForm.KEY: "keys",
    ItemForm.EMBEDDINGS: "embeddings",
    ItemForm.TOKEN_IDS: "token_ids",
}
_ONLY: dict[type, ItemForm] = {str: ItemForm.TEXT, Key: ItemForm.KEY, list: ItemForm.TOKEN_IDS}


def _item(form: ItemForm, values: Any, index: int) -> Item:
    if form is ItemForm.KEY:
        return Key(values[index])
    if form is ItemForm.TOKEN_IDS:
        run: NDArray[np.int64] = values.run(index)
        return run
    item: Item = values[index]
    return item


def _only_form(items: Sequence[Any]) -> ItemForm | None:
    """Tells the form of all items where one look at their types does."""
    kinds = set(map(type, items))
    if len(kinds) != 1:
        return None
    (kind,) = kinds
    if kind is not np.ndarray:
        return _ONLY.get(kind)
    letters = {item.dtype.kind for item in items}
    if letters == {"f"}:
        return ItemForm.EMBEDDINGS
    return ItemForm.TOKEN_IDS if letters <= {"i", "u"} else None


def _in_one_column(form: ItemForm, items: Sequence[Any]) -> ItemColumns:
    places = np.arange(len(items))
    texts = _key_texts(items) if form is ItemForm.KEY else None
    column: Column[Any] = Column(_values(form, items, places), places)
    return ItemColumns(len(items), key_texts=texts, **{_FIELDS[form]: column})


def _in_columns(forms: Sequence[ItemForm], items: Sequence[Any]) -> ItemColumns:
    columns: dict[str, Column[Any]] = {}
    for form in dict.fromkeys(forms):
        places = np.array([place for place, own in enumerate(forms) if own is form], np.int64)
        values = _values(form, [items[place] for place in places], places)
        columns[_FIELDS[form]] = Column(values, places)
    return ItemColumns(len(items), key_texts=_key_texts(items), **columns)


def _key_texts(items: Sequence[Any]) -> Column[Sequence[str]] | None:
    """Takes the texts that keys bring with them."""
    texts = {
        place: item.text for place, item in enumerate(items) if type(item) is Key and item.text is not None
    }
    if not texts:
        return None
    places = np.fromiter(texts, np.int64, len(texts))
    return Column(_texts(list(texts.values()), places), places)


def _values(form: ItemForm, items: Sequence[Any], places: NDArray[np.int64]) -> Any:
    """Takes the items of one form as their column has them; `places` name them in messages."""
    match form:
        case ItemForm.TEXT:
            return _texts(items, places)
        case ItemForm.KEY:
            return _texts([key.id for key in items], places)
        case ItemForm.EMBEDDINGS:
            return stacked(items)
        case ItemForm.TOKEN_IDS:
            return _ragged(items, places)


def _texts(texts: Sequence[Any], places: NDArray[np.int64]) -> Sequence[str]:
    try:
        if "".join(texts).isascii():
            return texts
    except TypeError:  # something is no text: found below
        pass
    return [checked_text(text, f"item {place}") for place, text in zip(places, texts, strict=True)]


def stacked(arrays: Sequence[NDArray[np.floating]]) -> Embeddings:
    """Stacks embedding tokens to one array where they are of one shape [k, hidden] and type, else leaves them."""
    if len({(array.shape, array.dtype) for array in arrays}) != 1 or arrays[0].ndim != 2:
        return arrays
    return np.stack(arrays)


def _ragged(runs: Sequence[Any], places: NDArray[np.int64]) -> RaggedIds:
    arrays = [_ids(run, f"item {place}") for place, run in zip(places, runs, strict=True)]
    lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
    return RaggedIds.of_lengths(np.concatenate(arrays) if arrays else np.empty(0, np.int64), lengths)


def _ids(run: Any, where: str) -> NDArray[np.int64]:
    checked = checked_run(run, where)
    if isinstance(checked, np.ndarray) and checked.dtype != np.uint64:
        return checked.astype(np.int64, copy=False)
    try:
        return np.array([int(token) for token in checked] if _holds_numpy(checked) else checked, np.int64)
    except OverflowError:
        place, token = next(pair for pair in enumerate(checked) if not -(2**63) <= pair[1] < 2**63)
        raise InvalidRequest(
            f"{where}: token id {token} at position {place} is outside the vocabulary: it has more than 64 bits"
        ) from None


def _holds_numpy(tokens: Sequence[int] | NDArray[np.integer]) -> bool:
    """Tells whether some are of numpy's own types, one of which may be unsigned and too large for 64 bits."""
    return isinstance(tokens, np.ndarray) or not set(map(type, tokens)) <= {int}
