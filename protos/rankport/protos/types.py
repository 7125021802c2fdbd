"""Values that `Ranker` (in process) and `Client` (remote) take and return alike.

Owns no behaviour beyond tables of their columns; needs numpy only.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rankport.protos.tables import TableColumn, TableColumns, arrow_table, pandas_table

_SHOWN = 8  # values of which a result shows all


@dataclass(frozen=True, slots=True)
class Key:
    """Item whose embedding tokens are in the token store under `id`, or are made of `text` where it lacks them."""

    id: str
    text: str | None = None  # for on_missing "encode"


Messages = Sequence[Mapping[str, str]]
"""Chat, in order: each message has its `role` and its `content`. For a generator that takes chats."""

Prefix = str | Mapping[str, str] | Sequence[int] | Messages
"""Part that all items share: the prompt's only field, its fields by name, the whole prefix as token ids, or a chat."""

Query = Prefix | Key | NDArray[np.floating]
"""Query that two towers score items against: a prefix, or its representation, by key in the store or as an array."""

Item = str | Sequence[int] | NDArray[np.floating] | NDArray[np.integer] | Key
"""One item: text, token ids, embedding tokens [k, hidden], or a key of the token store."""

Side = Literal["query", "item"]
"""Side of two towers that a text is read by."""

Features = NDArray[np.floating] | Mapping[str, Sequence[float] | NDArray[np.floating]]
"""Wide features of a request: [items, features] in the bundle's order, or a column [items] by name. NaN: missing."""

Truncation = Literal["error", "truncate"]
"""What happens to a text longer than its segment's limit: an error, or a cut that its item's status tells."""

OnMissing = Literal["skip", "fail", "encode"]
"""Fate of a `Key` that the store lacks: its status is `not_found`, the request fails, or a server encodes the
key's text with the paired encoder."""


class ItemStatus(StrEnum):
    """Outcome of one item."""

    OK = "ok"
    TRUNCATED = "truncated"
    NOT_FOUND = "not_found"
    FAILED = "failed"
    ENCODED = "encoded"  # scored: the store lacked the key, and its text was encoded
    SKIPPED = "skipped"  # left out by a server under pressure


class Brief:
    """Dataclass of results that shows the first few values of long arrays and tuples, and how many there are."""

    __slots__ = ()

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return (
            f"{type(self).__name__}({', '.join(f'{f.name}={_brief(getattr(self, f.name))}' for f in fields)})"
        )


def _brief(value: object) -> str:
    if isinstance(value, np.ndarray):
        with np.printoptions(threshold=_SHOWN, edgeitems=3):
            return " ".join(repr(value).split())
    if not isinstance(value, tuple) or len(value) <= _SHOWN:
        return repr(value)
    counts = Counter(map(repr, value))
    if len(counts) <= 3:
        return f"({', '.join(f'{text} × {count}' for text, count in counts.items())})"
    return f"({', '.join(map(repr, value[:3]))}, … {len(value)} in all)"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and seconds a request cost."""

    prefix_tokens_cached: int
    prefix_tokens_computed: int
    item_tokens: int
    tokenize_s: float
    queue_s: float
    compute_s: float
    items_cached: int = 0  # whose scores a server had


@dataclass(frozen=True, slots=True, repr=False)
class ScoreResult(Brief):
    """Scores of one request, in the order of its items.

    An item `not_found`, `failed` or `skipped` has NaN scores and logits; `messages[i]` then says why ("" otherwise).
    """

    scores: NDArray[np.float32]  # [items] what they are, `score_kind` and `read_out` say
    logits: NDArray[np.float32]  # [items, labels]
    status: tuple[ItemStatus, ...]  # [items]
    messages: tuple[str, ...]  # [items]
    usage: Usage
    fingerprint: str  # of the bundle that answered
    score_kind: str  # "probability" | "logit" | "cosine" | "log_likelihood"
    read_out: str  # how scores are made of the logits: "softmax over yes, no: yes"
    depth: int | None = None  # of a server under pressure: how many items, from the first one on, were scored

    def columns(self) -> TableColumns:
        """Returns the columns of its table, a row an item: index, score, logits (a list a row), status, message."""
        return {
            "index": TableColumn("integer", np.arange(len(self.scores))),
            "score": TableColumn("number", self.scores),
            "logits": TableColumn("numbers", list(self.logits)),
            "status": TableColumn("text", [str(status) for status in self.status]),
            "message": TableColumn("text", self.messages),
        }

    def to_pandas(self) -> Any:
        """Makes a `pandas.DataFrame` of the columns. Raises `InvalidRequest` where pandas is not installed."""
        return pandas_table(self.columns())

    def to_arrow(self) -> Any:
        """Makes a `pyarrow.Table` of the columns; a score that is missing is null. Raises as `to_pandas`."""
        return arrow_table(self.columns())


@dataclass(frozen=True, slots=True, repr=False)
class LookupResult(Brief):
    """Stored embedding tokens of keys; a key that is `not_found` has NaN tokens and a message."""

    embeddings: NDArray[np.floating]  # [keys, k, hidden]
    status: tuple[ItemStatus, ...]  # [keys]
    messages: tuple[str, ...]  # [keys]
    fingerprint: str  # of the encoder that made them


@dataclass(frozen=True, slots=True, repr=False)
class EncodedText(Brief):
    """Text of a bulk encoding; one that `failed` has NaN tokens and a message."""

    id: str  # as the caller named it
    embeddings: NDArray[np.floating]  # [k, hidden]
    status: ItemStatus
    message: str


@dataclass(frozen=True, slots=True)
class FeatureDescription:
    """Feature of the events or the candidates of a model that ranks sets."""

    name: str
    source: str  # "id" | "scalar" | "dense" | "content": the last is vectors too, or keys of a token store
    width: int  # values a row has in a request; 1 of an id or a scalar
    lookup: str = ""  # of an id: "direct" (a number of a row), "keys", "modulo" or "splitmix64"
    id_type: str = ""  # of an id: "int64" or "uint64"
    ids: int = 0  # that have a row of their own: how many keys, of "direct" how many rows


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """Description of a served or loaded bundle."""

    name: str
    version: str
    kind: str  # "ranker", "item-encoder", … as in docs/bundle-format.md
    fingerprint: str
    architecture: str
    precision: str
    labels: tuple[str, ...]  # empty for an item encoder
    prompt_fields: tuple[str, ...]  # names that a prefix mapping must give
    item_forms: tuple[str, ...]  # of "text", "token_ids", "embeddings", "key"
    hidden_size: int
    embedding_tokens: int  # k tokens an item: produced by an encoder, or expected by a ranker; 0 if none
    embedding_dtype: str  # "float16" | "float32" | ""
    max_prefix_tokens: int
    max_item_tokens: int
    paired_encoder: str  # fingerprint, "" if none
    score_kind: (
        str  # "probability" | "logit" | "cosine" | "log_likelihood"; "" of a model that gives no scores
    )
    read_out: str  # how scores are made of the logits; "" of one that does not
    features: tuple[str, ...] = ()  # wide features that a request brings with each item, in order
    label_token_ids: tuple[int, ...] = ()  # token that each label is, where labels are tokens; else none
    # Of a model that ranks sets, whose `max_prefix_tokens` are events and `max_item_tokens` candidates:
    event_features: tuple[FeatureDescription, ...] = ()
    candidate_features: tuple[FeatureDescription, ...] = ()
    event_times: bool = False  # requests have `times` and `now`
    mask: str = (
        ""  # what candidates see of each other: "independent" | "set-wise" | "top"; "" of other models
    )
    chat_roles: tuple[str, ...] = ()  # of a generator that takes chats: roles of messages
    chat_template_kwargs: str = ""  # that the chat template was told, as JSON; "" if nothing
    # "vocabulary": of a text a weight for each of `hidden_size` tokens, most of them 0; "" of other models.
    embedding_form: str = ""
