"""Texts to classify, and `ClassifyResult`: what classes they are, in process and over the wire alike.

Owns what a pair of texts is given as, and how labels follow from probabilities. Probabilities are made elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_items, is_id_run
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.tables import TableColumn, TableColumns, arrow_table, pandas_table
from rankport.protos.types import Brief, ItemStatus, Usage
from rankport.protos.wording import counted

Text = str | Sequence[int] | NDArray[np.integer]
ClassText = Text | tuple[Text, Text]
"""Input of a classifier: a text, or token ids; or a pair of them, of a model that reads two texts together."""


@dataclass(frozen=True, slots=True)
class ClassTexts:
    """Texts of a request as columns; of pairs, the second texts beside the first ones."""

    texts: ItemColumns
    firsts: ItemColumns | None = None  # as many as `texts`

    @classmethod
    def of(cls, texts: "Iterable[ClassText] | ClassTexts") -> "ClassTexts":
        """Sorts texts or pairs into columns.

        Raises InvalidRequest for something that is no text (the message has its index), and for texts beside pairs.
        """
        if isinstance(texts, ClassTexts):
            return texts
        listed = checked_items(texts, "texts")
        paired = [_is_pair(text) for text in listed]
        for place, (text, pair) in enumerate(zip(listed, paired, strict=True)):
            if (
                not pair
                and isinstance(text, list | tuple)
                and any(isinstance(part, str) for part in text[:2])
            ):
                raise InvalidRequest(
                    f"texts[{place}] is {text!r:.60}: give a text, token ids, or a pair of them (first, second)"
                )
        if not any(paired):
            return cls(_text_columns(listed, "texts"))
        if not all(paired):
            raise InvalidRequest(
                f"texts[{paired.index(False)}] is one text, texts[{paired.index(True)}] a pair of them: give all "
                "alike, or classify them in two calls"
            )
        return cls.paired(*(_text_columns([pair[side] for pair in listed], _SIDES[side]) for side in (1, 0)))

    @classmethod
    def paired(cls, texts: ItemColumns, firsts: ItemColumns) -> "ClassTexts":
        """Puts first texts beside the second ones. Raises InvalidRequest unless there are as many."""
        if len(texts) != len(firsts):
            raise InvalidRequest(
                f"there are {len(firsts)} first texts and {counted(len(texts), 'text')}: give one for each"
            )
        return cls(texts, firsts)

    def __len__(self) -> int:
        return len(self.texts)


_SIDES = ("first texts", "second texts")


def require_texts(columns: ItemColumns, name: str) -> ItemColumns:
    """Takes columns of texts and token ids; InvalidRequest, with the index, for a key or embedding tokens."""
    others = [
        column.places[0] for column in (columns.keys, columns.embeddings) if column and len(column.places)
    ]
    if others:
        raise InvalidRequest(f"{name}[{min(others)}] is neither text nor token ids: give one of them")
    return columns


def _text_columns(texts: Sequence[Any], name: str) -> ItemColumns:
    return require_texts(ItemColumns.of(texts, name), name)


def _is_pair(value: object) -> bool:
    """Tells a pair of texts from a run of token ids."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return all(isinstance(part, str) or is_id_run(part) for part in value)


@dataclass(frozen=True, slots=True, repr=False)
class ClassifyResult(Brief):
    """Labels of one request's texts, in their order.

    A text that `failed` has NaN probabilities and logits; `messages[i]` then says why ("" otherwise).
    """

    labels: tuple[str, ...]  # names of the columns
    probabilities: NDArray[np.float32]  # [texts, labels]
    logits: NDArray[np.float32]  # [texts, labels]
    exclusive: (
        bool  # a text has one of the labels, and its probabilities add up to 1; otherwise each stands alone
    )
    status: tuple[ItemStatus, ...]  # [texts]
    messages: tuple[str, ...]  # [texts]
    usage: Usage
    fingerprint: str  # of the bundle that answered

    @property
    def best(self) -> tuple[str, ...]:
        """The likeliest label of each text, the first of equal ones; "" of one that failed. [texts]"""
        return tuple(self.labels[place] if place >= 0 else "" for place in self._likeliest().tolist())

    @property
    def best_probabilities(self) -> NDArray[np.float32]:
        """The probability of each text's likeliest label; NaN of one that failed. [texts]"""
        return self.probabilities[np.arange(len(self.probabilities)), np.maximum(self._likeliest(), 0)]

    def above(self, threshold: float = 0.5) -> tuple[tuple[str, ...], ...]:
        """Lists the labels of each text whose probability is `threshold` or more, in the order of `labels`. [texts]

        What labels that do not exclude each other (`exclusive` is False) are read by. Raises InvalidRequest for a
        threshold outside 0 to 1.
        """
        if not 0 <= threshold <= 1:
            raise InvalidRequest(f"threshold is {threshold!r:.40}: a probability is 0 to 1")
        chosen = self.probabilities >= np.float32(threshold)
        return tuple(tuple(self.labels[place] for place in np.flatnonzero(row)) for row in chosen)

    def columns(self) -> TableColumns:
        """Returns the columns of its table, a row a text: its index, label, probabilities, status, message."""
        return {
            "index": TableColumn("integer", np.arange(len(self.probabilities))),
            "label": TableColumn("text", self.best),
            "probability": TableColumn("number", self.best_probabilities),
            "probabilities": TableColumn("numbers", list(self.probabilities)),
            "status": TableColumn("text", [str(status) for status in self.status]),
            "message": TableColumn("text", self.messages),
        }

    def to_pandas(self) -> Any:
        """Makes a `pandas.DataFrame` of the columns. Raises `InvalidRequest` where pandas is not installed."""
        return pandas_table(self.columns())

    def to_arrow(self) -> Any:
        """Makes a `pyarrow.Table` of the columns; a probability that is missing is null. Raises as `to_pandas`."""
        return arrow_table(self.columns())

    def _likeliest(self) -> NDArray[np.int64]:
        """Finds the column of each text's largest logit; -1 where there is none. [texts]"""
        known = np.isfinite(self.logits).all(axis=1)
        places = np.full(len(self.logits), -1, np.int64)
        places[known] = self.logits[known].argmax(axis=1)
        return places
