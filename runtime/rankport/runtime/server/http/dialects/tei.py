"""text-embeddings-inference: `/rerank`, `/predict`, `/embed`, `/embed_sparse`, `/`. Answers are bare lists."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import ItemColumns
from rankport.protos.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    RankportError,
    RequestCancelled,
    Unavailable,
)
from rankport.protos.types import ItemStatus, Side, Truncation
from rankport.protos.wording import counted
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect
from rankport.runtime.server.http.encoding import encode_texts
from rankport.runtime.server.http.forms import FAIL_FAST, Form, Texts, TokenIds, TopN, refuse
from rankport.runtime.server.http.scoring import (
    all_scored,
    own_headers,
    ranked,
    score_texts,
    scores_as,
)


class TeiOptions(Form):
    """Options that all requests have."""

    truncate: bool | None = None
    truncation_direction: Literal["right", "Right", "left", "Left"] | None = None

    def truncation(self, call: Call) -> Truncation:
        """Tells what becomes of long texts. Raises `InvalidRequest` for a cut that the bundle does not make."""
        if self.truncation_direction in ("left", "Left"):
            refuse("truncation_direction", "Left", "leave it out, the model's bundle says which end is kept")
        return call.truncation(self.truncate)


class TeiRerank(TeiOptions):
    """Request of `/rerank`."""

    query: str
    texts: Texts
    raw_scores: bool = False
    return_text: bool = False
    top_n: TopN = None  # which LiteLLM sends; 0: all


class TeiPredict(TeiOptions):
    """Request of `/predict`: a text, or a pair as a list of two; or a list of such lists, of one text or two."""

    inputs: str | Annotated[list[Annotated[list[str], FAIL_FAST]], FAIL_FAST] | Texts
    raw_scores: bool = False


class TeiEmbed(TeiOptions):
    """Request of `/embed`."""

    inputs: str | Texts | TokenIds | Annotated[list[TokenIds], FAIL_FAST]
    normalize: bool = True
    prompt_name: str | None = None
    dimensions: int | None = None


class TeiEmbedSparse(TeiOptions):
    """Request of `/embed_sparse`."""

    inputs: str | Texts
    prompt_name: str | None = None  # of the side that texts are read as: an item's, where it is not said

    def side(self) -> Side:
        """Takes the side that has the prompt. Raises `InvalidRequest` for another name than sentence-transformers'."""
        side = _SIDES.get(self.prompt_name)
        if side is None:
            raise InvalidRequest(f"prompt_name is {self.prompt_name!r:.40}: give query or document")
        return side


_SIDES: Mapping[str | None, Side] = {None: "item", "document": "item", "query": "query"}


async def _rerank(call: Call, form: TeiRerank) -> Reply:
    with call.scorer("") as served:
        scored = all_scored(await score_texts(call, served, form.query, form.texts, form.truncation(call)))
    scores = scores_as(scored.result, not form.raw_scores)
    body = [
        {
            "index": index,
            "score": float(scores[index]),
            **({"text": form.texts[index]} if form.return_text else {}),
        }
        for index in ranked(scored.result, form.top_n)
    ]
    return Reply(body, scored.headers(not form.raw_scores))


async def _predict(call: Call, form: TeiPredict) -> Reply:
    truncation = form.truncation(call)
    texts, single = _inputs(form.inputs)
    call.check_size(len(texts))
    with call.classifier("") as served:
        submit = served.model.submit_classify
        result = await call.run(lambda left_s: submit(texts, None, left_s, truncation=truncation))
    for index, status in enumerate(result.status):
        if status is ItemStatus.FAILED:
            raise InvalidRequest(f"inputs[{index}]: {result.messages[index]}")
    values = result.logits if form.raw_scores else result.probabilities
    answers = [
        [{"score": float(row[column]), "label": result.labels[column]} for column in order]
        for row, order in zip(values, np.argsort(-values, axis=1, kind="stable").tolist(), strict=True)
    ]
    usage = result.usage
    read = usage.prefix_tokens_cached + usage.prefix_tokens_computed + usage.item_tokens
    cut = sum(status is ItemStatus.TRUNCATED for status in result.status)
    headers = own_headers(served.description, prompt_tokens=str(read), truncated_items=str(cut))
    return Reply(answers[0] if single else answers, headers)


def _inputs(inputs: "str | list[str] | list[list[str]]") -> tuple[list[str | tuple[str, str]], bool]:
    """Reads texts and pairs, and says whether there is one alone, whose labels are no list of lists."""
    if isinstance(inputs, str):
        return [inputs], True
    if inputs and isinstance(inputs[0], str):
        return [_text_or_pair("inputs", inputs)], True  # forms let no mixture through
    return [_text_or_pair(f"inputs[{index}]", entry) for index, entry in enumerate(inputs)], False


def _text_or_pair(place: str, texts: Sequence[str]) -> str | tuple[str, str]:
    if len(texts) not in (1, 2):
        raise InvalidRequest(
            f"{place} has {counted(len(texts), 'text')}: give one, or a pair; several texts are lists in a list"
        )
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


async def _embed(call: Call, form: TeiEmbed) -> Reply:
    refuse("prompt_name", form.prompt_name, "leave it out, the model's bundle has its prompt")
    with call.encoder("") as served:
        rows = await encode_texts(call, served, form.inputs, form.truncation(call), form.dimensions)
    vectors: NDArray[np.floating] = rows.vectors
    if form.normalize:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(lengths == 0, 1, lengths)
    return Reply(vectors.tolist(), rows.headers)


async def _embed_sparse(call: Call, form: TeiEmbedSparse) -> Reply:
    texts = [form.inputs] if isinstance(form.inputs, str) else form.inputs
    truncation, side = form.truncation(call), form.side()
    call.check_size(len(texts))
    with call.sparse_encoder("") as served:
        submit = served.model.submit_sparse
        columns = ItemColumns.of(texts, "inputs")
        rows = await call.run(lambda left_s: submit(columns, left_s, truncation=truncation, side=side))
    body = [
        [
            {"index": index, "value": value}
            for index, value in zip(places.tolist(), weights.tolist(), strict=True)
        ]
        for places, weights in rows
    ]
    return Reply(body, own_headers(served.description))


_ERROR_TYPES = {
    Overloaded: "overloaded",
    Unavailable: "unhealthy",
    DeadlineExceeded: "backend",
    RequestCancelled: "backend",
}


def _refusal(error: RankportError) -> Mapping[str, object]:
    kind = "validation" if isinstance(error, ValueError | LookupError) else "backend"
    return {"error": str(error), "error_type": _ERROR_TYPES.get(type(error), kind)}


RERANK = Dialect("TEI: rerank texts", TeiRerank, _rerank, _refusal)
PREDICT = Dialect("TEI: classify texts or pairs", TeiPredict, _predict, _refusal, "classifies")
EMBED = Dialect("TEI: encode texts", TeiEmbed, _embed, _refusal, "encodes")
EMBED_SPARSE = Dialect(
    "TEI: encode texts as weights of tokens", TeiEmbedSparse, _embed_sparse, _refusal, "encodes_sparse"
)
