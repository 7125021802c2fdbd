"""Voyage AI's rerank and embeddings: `/v1/rerank` with `top_k`, `/v1/embeddings` with `truncation`.

Long texts are cut, as Voyage does, unless `truncation` is false.
"""

from collections.abc import Mapping
from typing import Literal

from rankport.protos.errors import RankportError
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect
from rankport.runtime.server.http.encoding import SIDES, embedded, encode_texts
from rankport.runtime.server.http.forms import Form, Texts, TopN
from rankport.runtime.server.http.scoring import ranked, score_texts


class VoyageOptions(Form):
    """Options that both requests have."""

    model: str
    truncation: bool = True


class VoyageRerank(VoyageOptions):
    """Request of Voyage's rerank."""

    query: str
    documents: Texts
    top_k: TopN = None
    return_documents: bool = False


class VoyageEmbeddings(VoyageOptions):
    """Request of Voyage's embeddings."""

    input: str | Texts
    input_type: Literal["query", "document"] | None = None
    encoding_format: Literal["base64"] | None = None  # null: lists
    output_dimension: int | None = None
    output_dtype: Literal["float"] | None = None


async def _rerank(call: Call, form: VoyageRerank) -> Reply:
    with call.scorer(form.model) as served:
        scored = await score_texts(call, served, form.query, form.documents, call.truncation(form.truncation))
    scores = scored.result.scores
    data = [
        {
            "index": index,
            "relevance_score": float(scores[index]),
            **({"document": form.documents[index]} if form.return_documents else {}),
        }
        for index in ranked(scored.result, form.top_k)
    ]
    said = {"model": scored.model.name, "score_kind": scored.result.score_kind, "usage": scored.usage}
    return Reply({"object": "list", "data": data, **said}, scored.headers())


async def _embed(call: Call, form: VoyageEmbeddings) -> Reply:
    side = None if form.input_type is None else SIDES[form.input_type]
    with call.encoder(form.model) as served:
        encoded = await encode_texts(
            call,
            served,
            form.input,
            call.truncation(form.truncation),
            form.output_dimension,
            side=side,
            count=True,
        )
    return embedded(encoded, in_base64=form.encoding_format == "base64")


def _refusal(error: RankportError) -> Mapping[str, object]:
    return {"detail": str(error)}


RERANK = Dialect("Voyage: rerank documents", VoyageRerank, _rerank, _refusal)
EMBED = Dialect("Voyage: encode texts", VoyageEmbeddings, _embed, _refusal, "encodes")
