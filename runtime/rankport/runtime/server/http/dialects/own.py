"""Our own API as JSON: `/v1/rankport/score`, all that `Score` of the gRPC API takes, in columns."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np

from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.features import FeatureColumns
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.types import Item, ItemStatus, Key, OnMissing, Truncation
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.forms import FAIL_FAST, Form, Numbers, OneOf, PrefixObject, TokenIds
from rankport.runtime.server.http.scoring import Scored, score

Row = Annotated[list[float | None], FAIL_FAST]


class ItemObject(OneOf):
    """One item, by its form; a key may bring the text to encode where the store lacks it."""

    together: ClassVar[frozenset[str]] = frozenset({"key", "text"})
    text: str | None = None
    token_ids: TokenIds | None = None
    embeddings: Annotated[list[Numbers], FAIL_FAST] | None = None  # [k, hidden]
    key: str | None = None  # of the token store

    def value(self, index: int) -> Item:
        """Returns the item as models take it."""
        if self.key is not None:
            return Key(self.key, self.text)
        if self.embeddings is not None:
            return _matrix(self.embeddings, f"items[{index}].embeddings")
        given: str | list[int] | None = self.token_ids if self.text is None else self.text
        if given is None:
            raise InvalidRequest(f"items[{index}] is null: give it in one of its forms")
        return given


class OwnScore(Form):
    """Request of `Score`: see the gRPC API for what each field means."""

    model: str = ""
    prefix: str | PrefixObject
    items: Annotated[list[str | ItemObject], FAIL_FAST]
    truncation: Truncation = "error"
    on_missing: OnMissing = "skip"
    # Rows of the items, or columns by name; null where a value is missing.
    features: Annotated[list[Row], FAIL_FAST] | Mapping[str, Row] | None = None


async def _score(call: Call, form: OwnScore) -> Reply:
    items = [item if isinstance(item, str) else item.value(i) for i, item in enumerate(form.items)]
    call.check_size(len(items), sum(len(item) for item in items if not isinstance(item, str | Key)))
    query = ScoreQuery(
        form.prefix if isinstance(form.prefix, str) else form.prefix.value(),
        ItemColumns.of(items),
        form.truncation,
        form.on_missing,
        None if form.features is None else _features(form.features),
    )
    with call.scorer(form.model) as served:
        return _reply(await score(call, served, query))


def _reply(scored: Scored) -> Reply:
    result = scored.result
    outcomes = [
        {"index": index, "status": status.value, "message": message}
        for index, (status, message) in enumerate(zip(result.status, result.messages, strict=True))
        if status is not ItemStatus.OK
    ]
    usage = {name: getattr(result.usage, name) for name in type(result.usage).__slots__}
    body = {
        "model": scored.model.name,
        "fingerprint": result.fingerprint,
        "score_kind": result.score_kind,
        "read_out": result.read_out,
        "labels": scored.model.labels,
        "scores": _numbers(result.scores),
        "logits": [_numbers(row) for row in result.logits],
        "outcomes": outcomes,
        "depth": result.depth,
        "usage": usage,
    }
    return Reply(body, scored.headers())


def _numbers(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """Writes numbers as JSON has them: null for none."""
    array = np.asarray(values)
    listed: list[float | None] = array.tolist()
    if np.isfinite(array).all():
        return listed
    return [value if value is not None and np.isfinite(value) else None for value in listed]


def _features(
    features: Sequence[Sequence[float | None]] | Mapping[str, Sequence[float | None]],
) -> FeatureColumns:
    if isinstance(features, Mapping):
        return FeatureColumns.of({name: _filled(column) for name, column in features.items()})
    return FeatureColumns.of(_matrix([_filled(row) for row in features], "features"))


def _filled(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float32)


def _matrix(rows: Sequence[Sequence[float]] | Sequence[np.ndarray], where: str) -> np.ndarray:
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise InvalidRequest(f"{where} has rows of {lengths[0]} and {lengths[-1]} numbers: give all alike")
    return np.array(rows, np.float32).reshape(len(rows), lengths[0] if lengths else 0)


SCORE = Dialect("rankport: score items against a prefix", OwnScore, _score, openai_error)
