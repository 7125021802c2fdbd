"""Jina's and vLLM's rerank: `/rerank`, `/v1/rerank`. Long documents fail unless `truncate_prompt_tokens` is -1."""

from typing import Annotated
from uuid import uuid4

from pydantic import with_config
from typing_extensions import TypedDict

from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.forms import FAIL_FAST, ITEM, TopN, refuse
from rankport.runtime.server.http.scoring import kind_as, ranked, score_texts, scores_as
from rankport.runtime.server.http.vllm_options import VllmOptions


@with_config(ITEM)
class TextDocument(TypedDict):
    """Document that is an object."""

    text: str


class JinaRerank(VllmOptions):
    """Request of Jina's and vLLM's rerank."""

    query: str
    documents: Annotated[list[str | TextDocument], FAIL_FAST]
    top_n: TopN = None  # 0: all
    return_documents: bool | None = None  # unless it is false
    max_tokens_per_doc: int | None = None  # 0: no limit


async def _rerank(call: Call, form: JinaRerank) -> Reply:
    refuse(
        "max_tokens_per_doc", form.max_tokens_per_doc or None, "leave it out, or cut the documents yourself"
    )
    texts = [document if isinstance(document, str) else document["text"] for document in form.documents]
    with call.scorer(form.model) as served:
        scored = await score_texts(call, served, form.query, texts, form.truncation(call))
    scores = scores_as(scored.result, form.use_activation)
    shown = form.return_documents is not False
    results = [
        {
            "index": index,
            "relevance_score": float(scores[index]),
            **({"document": {"text": texts[index]}} if shown else {}),
        }
        for index in ranked(scored.result, form.top_n)
    ]
    body = {
        "id": form.request_id or f"rerank-{uuid4().hex}",
        "model": scored.model.name,
        "usage": scored.usage,
        "results": results,
        "score_kind": kind_as(scored.result, form.use_activation),
    }
    return Reply(body, scored.headers(form.use_activation))


RERANK = Dialect("Jina and vLLM: rerank documents", JinaRerank, _rerank, openai_error)
