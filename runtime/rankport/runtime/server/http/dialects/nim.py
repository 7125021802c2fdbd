"""NVIDIA NIM's reranking: `/v1/ranking`. Scores are logits."""

from collections.abc import Mapping
from typing import Annotated, Literal

from rankport.protos.errors import RankportError, http_status
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect
from rankport.runtime.server.http.forms import FAIL_FAST, Form
from rankport.runtime.server.http.scoring import best_first, score_texts, scores_as


class NimText(Form):
    """Text of a query or passage."""

    text: str


class NimRanking(Form):
    """Request of NIM's ranking."""

    model: str = ""
    query: NimText
    passages: Annotated[list[NimText], FAIL_FAST]
    truncate: Literal["NONE", "END"] | None = None


async def _rank(call: Call, form: NimRanking) -> Reply:
    truncation = call.truncation(None if form.truncate is None else form.truncate == "END")
    texts = [passage.text for passage in form.passages]
    with call.scorer(form.model) as served:
        scored = await score_texts(call, served, form.query.text, texts, truncation)
    scores = scores_as(scored.result, normalized=False)
    rankings = [{"index": index, "logit": float(scores[index])} for index in best_first(scores, None)]
    body = {"rankings": rankings, "model": scored.model.name, "usage": scored.usage}
    return Reply(body, scored.headers(normalized=False))


def _refusal(error: RankportError) -> Mapping[str, object]:
    return {
        "object": "error",
        "message": str(error),
        "detail": str(error),
        "type": type(error).__name__,
        "code": http_status(error),
    }


RANK = Dialect("NIM: rank passages", NimRanking, _rank, _refusal)
