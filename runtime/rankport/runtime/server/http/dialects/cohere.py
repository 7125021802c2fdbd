"""Cohere's API: `/v2/rerank`, `/v2/embed`, `/v1/embed`. Texts longer than the model takes are cut, as Cohere does.

Documents that were cut are told in a warning.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, with_config
from typing_extensions import TypedDict

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.protos.types import Side
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect
from rankport.runtime.server.http.encoding import encode_texts
from rankport.runtime.server.http.forms import FAIL_FAST, ITEM, Form, Texts, refuse
from rankport.runtime.server.http.scoring import Scored, ranked, score_texts

EmbeddingType = Literal["float", "base64", "binary", "ubinary", "int8", "uint8"]
InputType = Literal["search_document", "search_query", "classification", "clustering", "image"]
Priority = Annotated[int, Field(ge=0, le=999)] | None


class CohereRerank(Form):
    """Request of Cohere's v2 rerank."""

    model: str
    query: str
    documents: Texts
    top_n: Annotated[int, Field(ge=1)] | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None
    priority: Priority = None
    return_documents: bool | None = None  # of its first clients, and of LiteLLM


@with_config(ITEM)
class CohereContent(TypedDict, total=False):
    """Part of an input: a text, or an image, which is refused."""

    type: str
    text: str
    image_url: Any


@with_config(ITEM)
class CohereInput(TypedDict):
    """Input in parts."""

    content: list[CohereContent]


class CohereEmbed(Form):
    """Request of Cohere's embed, of v1 and v2."""

    model: str = ""  # which v1 may leave out
    texts: Texts | None = None
    inputs: Annotated[list[CohereInput], FAIL_FAST] | None = None
    images: Texts | None = None
    input_type: InputType | None = None
    embedding_types: list[EmbeddingType] | None = None
    output_dimension: int | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    truncate: Literal["NONE", "START", "END"] = "END"
    priority: Priority = None

    def all_texts(self) -> list[str]:
        """Lists the texts, in whatever form. Raises `InvalidRequest` for none, two forms, or images."""
        refuse("images", self.images or None, "models here read texts")
        refuse("input_type", "image" if self.input_type == "image" else None, "models here read texts")
        if (self.texts is None) == (self.inputs is None):
            raise InvalidRequest("texts and inputs: give one of them")
        if self.inputs is None:
            return self.texts or []
        return [
            _text(given["content"], f"inputs[{index}].content") for index, given in enumerate(self.inputs)
        ]

    def check(self) -> None:
        """Raises `InvalidRequest` for what cannot be honoured."""
        _refuse_priority(self.priority)
        refuse(
            "truncate",
            "START" if self.truncate == "START" else None,
            "leave it out, the model's bundle says which end is kept",
        )
        for kind in self.embedding_types or ():
            refuse(
                "embedding_types",
                kind if kind in ("int8", "uint8") else None,
                "give float, base64, binary or ubinary, as no ranges of values are known",
            )


def _refuse_priority(said: int | None) -> None:
    refuse("priority", said or None, "leave it out, header x-priority has two classes")


def _text(content: Sequence[CohereContent], place: str) -> str:
    if len(content) != 1 or content[0].keys() != {"type", "text"} or content[0]["type"] != "text":
        raise InvalidRequest(f"{place} is not one text: give one part with type and text")
    return content[0]["text"]


async def _rerank(call: Call, form: CohereRerank) -> Reply:
    _refuse_priority(form.priority)
    with call.scorer(form.model) as served:
        limit = served.description.max_item_tokens
        _check_limit("max_tokens_per_doc", form.max_tokens_per_doc, limit, "document")
        scored = await score_texts(call, served, form.query, form.documents, "truncate")
    scores = scored.result.scores
    results = [
        {
            "index": index,
            "relevance_score": float(scores[index]),
            **({"document": {"text": form.documents[index]}} if form.return_documents else {}),
        }
        for index in ranked(scored.result, form.top_n)
    ]
    said = {"model": scored.model.name, "score_kind": scored.result.score_kind}
    return Reply({"id": str(uuid4()), "results": results, "meta": _meta(scored), **said}, scored.headers())


def _check_limit(name: str, said: int | None, limit: int, what: str) -> None:
    if said is not None and said < limit:
        raise InvalidRequest(
            f"{name} is {said}, and this model reads up to {limit} tokens of each {what}: leave it out, or cut the "
            f"{what}s yourself"
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


async def _embed(call: Call, form: CohereEmbed, version: str) -> Reply:
    form.check()
    texts = form.all_texts()
    truncation = call.truncation(form.truncate == "END")
    side = _SIDES.get(form.input_type or "")
    with call.encoder(form.model) as served:
        _check_limit("max_tokens", form.max_tokens, served.description.max_item_tokens, "text")
        encoded = await encode_texts(
            call, served, texts, truncation, form.output_dimension, side=side, count=True
        )
    floats_alone = version == "1" and not form.embedding_types
    kinds = dict.fromkeys(form.embedding_types or ("float",))
    by_type = {kind: _WRITTEN[kind](encoded.vectors) for kind in kinds}
    body = {
        "id": str(uuid4()),
        "response_type": "embeddings_floats" if floats_alone else "embeddings_by_type",
        "embeddings": by_type["float"] if floats_alone else by_type,
        "texts": texts,
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"input_tokens": encoded.prompt_tokens},
        },
        "model": encoded.model.name,
    }
    return Reply(body, encoded.headers)


async def _embed_v1(call: Call, form: CohereEmbed) -> Reply:
    return await _embed(call, form, "1")


async def _embed_v2(call: Call, form: CohereEmbed) -> Reply:
    if not form.model:
        raise InvalidRequest("model is not set: give it")
    return await _embed(call, form, "2")


def _bits(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Packs the signs of numbers, eight to a byte."""
    return np.packbits(vectors > 0, axis=1)


_SIDES: Mapping[str, Side] = {"search_query": "query", "search_document": "item"}
_WRITTEN: Mapping[str, Callable[[NDArray[np.float32]], object]] = {
    "float": lambda vectors: vectors.tolist(),
    "base64": lambda vectors: [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors],
    "ubinary": lambda vectors: _bits(vectors).tolist(),
    "binary": lambda vectors: (_bits(vectors).astype(np.int16) - 128).tolist(),
}


def _refusal(error: RankportError) -> Mapping[str, object]:
    return {"message": str(error)}


EMBED = Dialect("Cohere v2: encode texts", CohereEmbed, _embed_v2, _refusal, "encodes")
EMBED_V1 = replace(EMBED, summary="Cohere v1: encode texts", answer=_embed_v1)
RERANK = Dialect("Cohere v2: rerank documents", CohereRerank, _rerank, _refusal)
