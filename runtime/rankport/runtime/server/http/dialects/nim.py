"""NVIDIA's reranking: `/v1/ranking` of NIM, `/v1/retrieval/…/reranking` of its hosted API. Scores are logits."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import with_config
from typing_extensions import TypedDict

from rankport.protos.errors import InvalidRequest, RankportError, http_status
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect
from rankport.runtime.server.http.forms import FAIL_FAST, ITEM, Form
from rankport.runtime.server.http.scoring import ranked, score_texts, scores_as


@with_config(ITEM)
class NimText(TypedDict):
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
    texts = [passage["text"] for passage in form.passages]
    with call.scorer(_model(call, form.model)) as served:
        scored = await score_texts(call, served, form.query["text"], texts, truncation)
    scores = scores_as(scored.result, normalized=False)
    rankings = [{"index": index, "logit": float(scores[index])} for index in ranked(scored.result, None)]
    body = {"rankings": rankings, "model": scored.model.name, "usage": scored.usage}
    return Reply(body, scored.headers(normalized=False))


def _model(call: Call, name: str) -> str:
    """Finds the name of the model that body and path mean; NVIDIA's paths have "_" for its names' dots.

    Raises `InvalidRequest` where they mean two.
    """
    if "model" not in call.named:
        return name
    last = call.named["model"]
    paths = (f"{call.named['organization']}/{last}", last)
    if name:
        if name.partition("@")[0].replace(".", "_").rpartition("/")[2] != last.replace(".", "_"):
            raise InvalidRequest(
                f"model is {name!r:.80}, and the path names {paths[0]!r:.80}: name one of them"
            )
        return name
    written = {known.replace(".", "_"): known for known in call.core.models.alive()}
    return next((written[path] for path in paths if path in written), last)


def _refusal(error: RankportError) -> Mapping[str, object]:
    return {
        "object": "error",
        "message": str(error),
        "detail": str(error),
        "type": type(error).__name__,
        "code": http_status(error),
    }


RANK = Dialect("NIM: rank passages", NimRanking, _rank, _refusal)
