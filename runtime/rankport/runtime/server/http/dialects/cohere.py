"""Cohere's v2 API: `/v2/rerank`. Documents longer than the model takes are cut, as Cohere does, with a warning."""

from collections.abc import Mapping
from typing import Annotated
from uuid import uuid4

from pydantic import Field

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect
from rankport.runtime.server.http.forms import Form, Texts, refuse
from rankport.runtime.server.http.scoring import Scored, best_first, score_texts


class CohereRerank(Form):
    """Request of Cohere's v2 rerank."""

    model: str
    query: str
    documents: Texts
    top_n: Annotated[int, Field(ge=1)] | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None
    priority: Annotated[int, Field(ge=0, le=999)] | None = None
    return_documents: bool | None = None  # of its first clients, and of LiteLLM


async def _rerank(call: Call, form: CohereRerank) -> Reply:
    refuse("priority", form.priority or None, "leave it out, header x-priority has two classes")
    with call.scorer(form.model) as served:
        _check_doc_limit(form, served.description.max_item_tokens)
        scored = await score_texts(call, served, form.query, form.documents, "truncate")
    scores = scored.result.scores
    results = [
        {
            "index": index,
            "relevance_score": float(scores[index]),
            **({"document": {"text": form.documents[index]}} if form.return_documents else {}),
        }
        for index in best_first(scores, form.top_n)
    ]
    said = {"model": scored.model.name, "score_kind": scored.result.score_kind}
    return Reply({"id": str(uuid4()), "results": results, "meta": _meta(scored), **said}, scored.headers())


def _check_doc_limit(form: CohereRerank, limit: int) -> None:
    if form.max_tokens_per_doc is not None and form.max_tokens_per_doc < limit:
        raise InvalidRequest(
            f"max_tokens_per_doc is {form.max_tokens_per_doc}, and this model reads up to {limit} tokens of each "
            "document: leave it out, or cut the documents yourself"
        )


def _meta(scored: Scored) -> object:
    warnings = [f"documents[{index}], or the query before it, was cut" for index in scored.truncated]
    if (depth := scored.result.depth) is not None:
        warnings.append(f"only documents[:{depth}] are ranked: the server is under pressure")
    return {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": scored.prompt_tokens},
        **({"warnings": warnings} if warnings else {}),
    }


def _refusal(error: RankportError) -> Mapping[str, object]:
    return {"message": str(error)}


RERANK = Dialect("Cohere v2: rerank documents", CohereRerank, _rerank, _refusal)
