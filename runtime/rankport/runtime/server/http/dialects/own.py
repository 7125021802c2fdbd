"""Our own API as JSON: `/v1/rankport/score`, all that `Score` of the gRPC API takes, in columns."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import with_config
from typing_extensions import TypedDict

from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.features import FeatureColumns
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.types import Item, ItemStatus, Key, OnMissing, Truncation
from rankport.runtime.server.http.apart import ITEM_BYTES, apart
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.forms import FAIL_FAST, ITEM, Form, PrefixObject, TokenIds, Vectors, matrix
from rankport.runtime.server.http.scoring import Scored, score

Row = Annotated[list[float | None], FAIL_FAST]


@with_config(ITEM)
class ItemObject(TypedDict, total=False):
    """One item, by its form; a key may bring the text to encode where the store lacks it."""

    text: str | None
    token_ids: TokenIds | None
    embeddings: Vectors | None  # [k, hidden]
    key: str | None  # of the token store


class OwnScore(Form):
    """Request of `Score`: see the gRPC API for what each field means."""

    model: str = ""
    prefix: str | PrefixObject
    items: Annotated[list[str | ItemObject], FAIL_FAST]
    truncation: Truncation = "error"
    on_missing: OnMissing = "skip"
    # Rows of the items, or columns by name; null where a value is missing.
    features: Annotated[list[Row], FAIL_FAST] | Mapping[str, Row] | None = None


def _item(given: ItemObject, index: int) -> Item:
    """Returns an item as models take it. Raises `InvalidRequest` where it has no form, or two."""
    if len(given) != 1 and given.keys() != {"key", "text"}:
        names = ", ".join(ItemObject.__annotations__)
        raise InvalidRequest(f"items[{index}]: give exactly one of {names}")
    text = given.get("text")
    if (key := given.get("key")) is not None:
        return Key(key, text)
    if (rows := given.get("embeddings")) is not None:
        return matrix(rows, f"items[{index}].embeddings")
    form = given.get("token_ids") if text is None else text
    if form is None:
        raise InvalidRequest(f"items[{index}] is null: give it in one of its forms")
    return form


async def _score(call: Call, form: OwnScore) -> Reply:
    nbytes = ITEM_BYTES * len(form.items)
    items, tokens = await apart(nbytes, _items, form.items)
    call.check_size(len(items), tokens)
    query = await apart(nbytes, _query, form, items)
    with call.scorer(form.model) as served:
        return await apart(nbytes, _reply, await score(call, served, query))


def _items(given: Sequence[str | ItemObject]) -> tuple[list[Item], int]:
    """Returns items as models take them, and the tokens that are known before texts are tokenized."""
    items = [item if isinstance(item, str) else _item(item, i) for i, item in enumerate(given)]
    return items, sum(len(item) for item in items if not isinstance(item, str | Key))


def _query(form: OwnScore, items: Sequence[Item]) -> ScoreQuery:
    return ScoreQuery(
        form.prefix if isinstance(form.prefix, str) else form.prefix.value(),
        ItemColumns.of(items),
        form.truncation,
        form.on_missing,
        None if form.features is None else _features(form.features),
    )


def _reply(scored: Scored) -> Reply:
    result = scored.result
    outcomes = [
        {"index": index, "status": status.value, "message": result.messages[index]}
        for index, status in enumerate(result.status)
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
        "logits": _rows(result.logits),
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


def _rows(values: NDArray[np.floating]) -> list[list[float | None]]:
    """Writes rows of numbers as JSON has them: null for none."""
    listed: list[list[float | None]] = values.tolist()
    for index in np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
        listed[index] = _numbers(values[index])
    return listed


def _features(
    features: Sequence[Sequence[float | None]] | Mapping[str, Sequence[float | None]],
) -> FeatureColumns:
    if isinstance(features, Mapping):
        return FeatureColumns.of({name: _filled(column) for name, column in features.items()})
    return FeatureColumns.of(matrix([_filled(row) for row in features], "features"))


def _filled(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float32)


SCORE = Dialect("rankport: score items against a prefix", OwnScore, _score, openai_error)
