"""The owner's file: what a production pipeline gave for texts, which a bundle is compared with.

Of a ranker, a line is a request or a pair, and a file may have both (pairs of equal prefix are one request):

    {"prefix": "text" | {field: text} | [token ids], "items": [item, ...], "scores": [score, ...]}
    {"prefix": ..., "item": item, "score": score}

Items are those of `requests_file`; a score is a number, or a list of label logits for the transform "softmax".
Of an item encoder, all lines of a file are embeddings, or all similarities:

    {"item": "text", "embedding": [number, ...]}        of k tokens: [[number, ...], ...]
    {"a": "text", "b": "text", "score": cosine}
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.options.bad_lines import BadLines, read_lines, repeat_of
from rankport.exporters.options.requests_file import (
    file_sha256,
    is_finite_number,
    parse_item,
    parse_items,
    parse_prefix,
)
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Item, Prefix
from rankport.protos.wording import keys_had

ReferenceForm = Literal["scores", "embeddings"]
"""Form of what a kind's owner has: scores of a ranker, embeddings (or their cosines) of an item encoder."""
ReferenceTransform = Literal["none", "sigmoid", "logit", "exp", "softmax", "rank"]
TRANSFORMS: tuple[ReferenceTransform, ...] = get_args(ReferenceTransform)

Score = float | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ScoredRequest:
    """One prefix, its items, and the owner's score of each."""

    prefix: Prefix
    items: tuple[Item, ...]
    scores: tuple[Score, ...]  # of one form all: numbers, or label logits of one length
    places: tuple[str, ...]  # file and line of each item

    @property
    def place(self) -> str:
        """File and line of the first item."""
        return self.places[0]


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """A text and the owner's embedding of it."""

    text: str
    embedding: NDArray[np.float64]  # [k, hidden]
    place: str


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two texts and the owner's cosine similarity of them."""

    texts: tuple[str, str]
    score: float
    place: str


@dataclass(frozen=True, slots=True)
class Reference:
    """Contents of an owner's file, and how its scores become ours. One of the three is not empty."""

    sha256: str
    transform: ReferenceTransform
    requests: tuple[ScoredRequest, ...] = ()
    embeddings: tuple[EmbeddedText, ...] = ()
    pairs: tuple[ScoredPair, ...] = ()


def read_reference(path: Path, form: ReferenceForm, transform: ReferenceTransform) -> Reference:
    """Reads an owner's file. Raises InvalidRequest naming every bad line and what is wrong with it."""
    sha256 = file_sha256(path, "reference scores")
    if form == "scores":
        lists = transform == "softmax"
        rows = read_lines(path, "reference scores", lambda row, place: _scored(row, place, lists))
        return Reference(sha256, transform, requests=_by_prefix(rows))
    if transform not in ("none", "rank"):
        raise InvalidRequest(
            f"--reference-transform {transform} is for scores of a ranker: an item encoder gives cosines"
        )
    lines = read_lines(path, "reference embeddings", _of_encoder)
    embeddings = tuple(row for row in lines if isinstance(row, EmbeddedText))
    pairs = tuple(row for row in lines if isinstance(row, ScoredPair))
    if embeddings and pairs:
        raise InvalidRequest(
            f"{path.name}: has embeddings ({embeddings[0].place}) and pairs ({pairs[0].place}): one file each"
        )
    _require_one_shape(embeddings)
    _require_once(
        [((row.text,), row.place) for row in embeddings] + [(row.texts, row.place) for row in pairs]
    )
    return Reference(sha256, transform, embeddings=embeddings, pairs=pairs)


def _scored(row: object, place: str, lists: bool) -> ScoredRequest:
    """Parses a line of a ranker's owner."""
    items: tuple[Item, ...]
    if isinstance(row, dict) and set(row) == {"prefix", "item", "score"}:
        items, scores = (parse_item(row["item"], "item"),), [row["score"]]
    elif isinstance(row, dict) and set(row) == {"prefix", "items", "scores"}:
        items, scores = parse_items(row["items"]), row["scores"]
    else:
        raise InvalidRequest(
            f"needs exactly the keys prefix, items and scores, or prefix, item and score{keys_had(row)}"
        )
    if not isinstance(scores, list) or len(scores) != len(items):
        raise InvalidRequest(f"needs a list of {len(items)} scores, one an item, not {scores!r}")
    values = tuple(_score(score, lists, index) for index, score in enumerate(scores))
    return ScoredRequest(parse_prefix(row["prefix"]), items, values, (place,) * len(items))


def _score(score: object, lists: bool, index: int) -> Score:
    if not lists:
        if not is_finite_number(score):
            hint = (
                ": a list of label logits needs --reference-transform softmax"
                if isinstance(score, list)
                else ""
            )
            raise InvalidRequest(f"score {index} must be a finite number, not {score!r}{hint}")
        return float(score)  # type: ignore[arg-type]
    if not isinstance(score, list) or len(score) < 2 or not all(map(is_finite_number, score)):
        raise InvalidRequest(f"score {index} must be a list of finite label logits (softmax), not {score!r}")
    return tuple(map(float, score))


def _by_prefix(rows: Sequence[ScoredRequest]) -> tuple[ScoredRequest, ...]:
    """Joins lines of equal prefix to one request. Raises InvalidRequest for items that are scored twice."""
    parts: dict[str, list[ScoredRequest]] = {}
    for row in rows:
        parts.setdefault(json.dumps(row.prefix, sort_keys=True), []).append(row)
    bad = BadLines(lines=len(rows))
    joined = tuple(map(_joined, parts.values()))
    for request in joined:
        repeated = repeat_of([repr(item) for item in request.items])
        if repeated is not None:
            first, again = (request.places[index] for index in repeated)
            bad.add(again, f"scores an item of {first} again, for the same prefix: leave one out")
    bad.raise_any()
    return joined


def _joined(parts: Sequence[ScoredRequest]) -> ScoredRequest:
    items = tuple(chain.from_iterable(part.items for part in parts))
    scores = tuple(chain.from_iterable(part.scores for part in parts))
    places = tuple(chain.from_iterable(part.places for part in parts))
    return ScoredRequest(parts[0].prefix, items, scores, places)


def _of_encoder(row: object, place: str) -> EmbeddedText | ScoredPair:
    """Parses a line of an item encoder's owner."""
    if isinstance(row, dict) and set(row) == {"item", "embedding"}:
        return EmbeddedText(_text(row["item"], "item"), _embedding(row["embedding"]), place)
    if isinstance(row, dict) and set(row) == {"a", "b", "score"}:
        if not is_finite_number(row["score"]) or abs(row["score"]) > 1 + 1e-6:
            raise InvalidRequest(f"score must be a cosine from -1 to 1, not {row['score']!r}")
        return ScoredPair((_text(row["a"], "a"), _text(row["b"], "b")), float(row["score"]), place)
    raise InvalidRequest(f"needs exactly the keys item and embedding, or a, b and score{keys_had(row)}")


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(f"{name} must be a text that is not empty, not {value!r}")
    return value


def _embedding(value: object) -> NDArray[np.float64]:
    rows: list[Any] = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    if not all(isinstance(row, list) and row and all(map(is_finite_number, row)) for row in rows):
        raise InvalidRequest("embedding must be a list of finite numbers, or of k such lists")
    if len({len(row) for row in rows}) > 1:
        raise InvalidRequest("embedding: its lists differ in length")
    embedding = np.array(rows, np.float64)
    if not np.linalg.norm(embedding, axis=1).all():
        raise InvalidRequest("embedding is zero: it has no direction to compare")
    return embedding


def _require_one_shape(rows: Sequence[EmbeddedText]) -> None:
    bad = BadLines(lines=len(rows))
    for row in rows:
        if row.embedding.shape != rows[0].embedding.shape:
            bad.add(
                row.place,
                f"embedding is {list(row.embedding.shape)}, that of {rows[0].place} {list(rows[0].embedding.shape)}",
            )
    bad.raise_any()


def _require_once(rows: Sequence[tuple[tuple[str, ...], str]]) -> None:
    bad = BadLines(lines=len(rows))
    seen: dict[tuple[str, ...], str] = {}
    for texts, place in rows:
        if texts in seen:
            bad.add(place, f"repeats {seen[texts]}: leave one out")
        seen.setdefault(texts, place)
    bad.raise_any()
