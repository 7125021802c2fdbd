"""Paths and the dialects that each speaks. Where a path has two, the body tells them apart."""

from collections.abc import Mapping, Sequence

from rankport.runtime.server.http.dialects import (
    chat,
    cohere,
    completions,
    jina,
    kserve,
    nim,
    openai,
    own,
    own_search,
    sglang,
    tei,
    vllm_score,
    voyage,
)
from rankport.runtime.server.http.endpoint import Choice

_V1_RERANK = (Choice(voyage.RERANK, "top_k"), Choice(voyage.RERANK, "truncation"), Choice(jina.RERANK))
# Documents may be objects, of which one has texts; texts are none.
_RERANK = (Choice(jina.RERANK, "documents"), Choice(tei.RERANK, "texts"), Choice(jina.RERANK))
_SCORE = (
    Choice(sglang.SCORE, "label_token_ids"),
    Choice(vllm_score.SCORE, "queries"),  # and items, which SGLang has too
    Choice(sglang.SCORE, "items"),
    Choice(vllm_score.SCORE),
)

ROUTES: Mapping[str, Sequence[Choice]] = {
    "/v1/rankport/score": (Choice(own.SCORE),),
    "/v1/rankport/search": (Choice(own_search.SEARCH),),
    "/v2/rerank": (Choice(cohere.RERANK),),
    "/v2/embed": (Choice(cohere.EMBED),),
    "/v1/embed": (Choice(cohere.EMBED_V1),),
    "/v1/rerank": _V1_RERANK,
    "/rerank": _RERANK,
    "/v1/ranking": (Choice(nim.RANK),),
    "/v1/retrieval/{organization}/reranking": (Choice(nim.RANK),),
    "/v1/retrieval/{organization}/{model}/reranking": (Choice(nim.RANK),),
    "/v2/models/{model}/versions/{version}/infer": (Choice(kserve.INFER),),
    "/v2/models/{model}/infer": (Choice(kserve.INFER),),
    "/score": (Choice(vllm_score.SCORE),),
    "/v1/score": _SCORE,
    "/predict": (Choice(tei.PREDICT),),
    "/embed": (Choice(tei.EMBED),),
    "/embed_sparse": (Choice(tei.EMBED_SPARSE),),
    "/": (Choice(tei.RERANK, "texts"), Choice(tei.EMBED)),
    "/v1/chat/completions": (Choice(chat.CHAT),),
    "/v1/completions": (Choice(completions.COMPLETE),),
    "/v1/embeddings": (Choice(voyage.EMBED, "truncation"), Choice(openai.EMBED)),
}
