"""SGLang's score: `/v1/score` with `items`. Scores of label tokens, a row an item."""

from typing import Annotated

import numpy as np

from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.messages.wire import ScoreQuery
from rankport.protos.scores import label_probabilities
from rankport.protos.types import ModelDescription
from rankport.protos.wording import listed, repeated
from rankport.runtime.kinds.capabilities import ScoringModel
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.forms import FAIL_FAST, Form, Texts, TokenIds, refuse
from rankport.runtime.server.http.scoring import Scored, all_scored, check_fields, score
from rankport.runtime.server.models.models import Served


class SglangScore(Form):
    """Request of SGLang's score. Texts go through the bundle's prompt; token ids are taken as they are."""

    query: str | TokenIds
    items: str | Texts | Annotated[list[TokenIds], FAIL_FAST]
    label_token_ids: TokenIds
    apply_softmax: bool = False
    item_first: bool = False
    model: str = ""


async def _score(call: Call, form: SglangScore) -> Reply:
    refuse(
        "item_first", form.item_first, "leave it out, the items of a request share what stands before them"
    )
    if not form.apply_softmax:
        raise InvalidRequest(
            "apply_softmax is false: this server has the labels' logits alone, whose softmax it gives; set it to true"
        )
    with call.scorer(form.model) as served:
        columns = _columns(served.description, form)
        scored = await _scored(call, served, form)
    shares = label_probabilities(scored.result.logits[:, columns].astype(np.float32), exclusive=True)
    body = {
        "scores": shares.tolist(),
        "model": scored.model.name,
        "usage": scored.usage,
        "object": "scoring",
    }
    return Reply(body, {**scored.headers(), "x-rankport-score-kind": "probability"})


async def _scored(call: Call, served: Served[ScoringModel], form: SglangScore) -> Scored:
    items = [form.items] if isinstance(form.items, str) else form.items
    call.check_size(len(items), sum(len(item) for item in items if not isinstance(item, str)))
    if isinstance(form.query, str):
        check_fields(served.description)
    query = ScoreQuery(form.query, ItemColumns.of(items), call.truncation(None), "skip")
    return all_scored(await score(call, served, query))


def _columns(model: ModelDescription, form: SglangScore) -> list[int]:
    """Finds the columns of logits that the label tokens have. Raises `InvalidRequest` for tokens that are no labels."""
    have = model.label_token_ids
    unknown = [token for token in form.label_token_ids if token not in have]
    if not have:
        raise InvalidRequest(
            f"label_token_ids: the labels of {model.name!r} are no tokens, ask another endpoint"
        )
    if unknown or not form.label_token_ids:
        labels = ", ".join(f"{token} ({name})" for token, name in zip(have, model.labels, strict=True))
        raise InvalidRequest(
            f"label_token_ids is {listed(form.label_token_ids)}: the labels of {model.name!r} are {labels}"
        )
    # Each is a share of every item: a few bytes could ask for gigabytes.
    if twice := repeated(form.label_token_ids):
        raise InvalidRequest(f"label_token_ids has {twice[0]} twice: give each label once")
    return [have.index(token) for token in form.label_token_ids]


SCORE = Dialect("SGLang: probabilities of label tokens", SglangScore, _score, openai_error)
