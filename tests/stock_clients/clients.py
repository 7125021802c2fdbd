"""Unmodified classes of other projects against a server: prints what each gives as a line of JSON.

Runs in the environment of `requirements.txt`, which has no rankport: URL ADDRESS MODEL ENCODER WRITER QUERY, the first
of HTTP and the second of gRPC, documents from stdin.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

Answer = list[tuple[str, float]]  # documents, best first, with their scores


def _haystack(ranker: Any, query: str, texts: Sequence[str]) -> Answer:
    from haystack import Document

    ranker.warm_up() if hasattr(ranker, "warm_up") else None
    ranked = ranker.run(query=query, documents=[Document(content=text) for text in texts])["documents"]
    return [(document.content, document.score) for document in ranked]


def vllm_ranker(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from haystack_integrations.components.rankers.vllm import VLLMRanker

    return _haystack(VLLMRanker(model=model, api_base_url=f"{url}/v1"), query, texts)


def vllm_ranker_top(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from haystack_integrations.components.rankers.vllm import VLLMRanker

    ranker = VLLMRanker(
        model=model, api_base_url=url, top_k=2, extra_parameters={"truncate_prompt_tokens": -1}
    )
    return _haystack(ranker, query, texts)


def tei_ranker(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    return _haystack(HuggingFaceTEIRanker(url=url, token=None), query, texts)


def tei_ranker_cut(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from haystack import Document
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
    from haystack_integrations.components.rankers.huggingface_api.ranker import TruncationDirection

    ranker = HuggingFaceTEIRanker(url=url, token=None, raw_scores=True)
    documents = [Document(content=text) for text in texts]
    ranked = ranker.run(query=query, documents=documents, truncation_direction=TruncationDirection.RIGHT)
    return [(document.content, document.score) for document in ranked["documents"]]


def jina_ranker(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.jina import JinaRanker

    ranker = JinaRanker(model=model, api_key=Secret.from_token("none"), base_url=f"{url}/v1/rerank")
    return _haystack(ranker, query, texts)


def cohere_ranker(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.cohere import CohereRanker

    ranker = CohereRanker(model=model, api_key=Secret.from_token("none"), api_base_url=url)
    return _haystack(ranker, query, texts)


def nvidia_ranker(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from haystack.utils import Secret
    from haystack_integrations.components.rankers.nvidia import NvidiaRanker

    ranker = NvidiaRanker(
        model=model,
        api_url=f"{url}/v1",
        api_key=Secret.from_token("none"),
        truncate="END",
        top_k=len(texts),
    )
    return _haystack(ranker, query, texts)


def _nodes(reranker: Any, query: str, texts: Sequence[str]) -> Answer:
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in texts]
    return [
        (node.get_content(), float(node.score)) for node in reranker.postprocess_nodes(nodes, query_str=query)
    ]


def llama_index_tei(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    return _nodes(TextEmbeddingInference(base_url=url, top_n=len(texts)), query, texts)


def llama_index_cohere(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    return _nodes(CohereRerank(model=model, api_key="none", base_url=url, top_n=len(texts)), query, texts)


def langchain_cohere(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from langchain_cohere import CohereRerank

    reranker = CohereRerank(model=model, cohere_api_key="none", base_url=url, top_n=len(texts))
    ranked = reranker.rerank(texts, query)
    return [(texts[row["index"]], row["relevance_score"]) for row in ranked]


def voyage_ranker(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from voyageai import Client

    client = Client(api_key="none", base_url=f"{url}/v1")
    ranked = client.rerank(query, list(texts), model=model, top_k=2).results
    return [(result.document, result.relevance_score) for result in ranked]


def _litellm(provider: str, url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # asks no other server for prices
    import litellm

    asked = {"query": query, "documents": list(texts), "top_n": 2, "api_base": url, "api_key": "none"}
    ranked = litellm.rerank(model=f"{provider}/{model}", **asked).results
    return [(texts[result["index"]], result["relevance_score"]) for result in ranked]


def litellm_cohere(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    return _litellm("cohere", url, model, query, texts)


def litellm_tei(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    return _litellm("huggingface", url, model, query, texts)


def litellm_vllm(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    return _litellm("hosted_vllm", url, model, query, texts)


def openai_embeddings(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    rows = client.embeddings.create(model=model, input=list(texts)).data
    return [(texts[row.index], row.embedding[0]) for row in rows]


def voyage_embeddings(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from voyageai import Client

    client = Client(api_key="none", base_url=f"{url}/v1")
    rows = client.embed(list(texts), model=model, input_type="document").embeddings
    return [(text, float(row[0])) for text, row in zip(texts, rows, strict=True)]


def cohere_embeddings(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from cohere import ClientV2

    client = ClientV2(api_key="none", base_url=url)
    rows = client.embed(
        model=model, texts=list(texts), input_type="search_document", embedding_types=["float"]
    ).embeddings.float_
    return [(text, row[0]) for text, row in zip(texts, rows, strict=True)]


def cohere_embeddings_v1(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from cohere import Client

    rows = Client(api_key="none", base_url=url).embed(texts=list(texts), model=model).embeddings
    return [(text, row[0]) for text, row in zip(texts, rows, strict=True)]


def tei_embedder(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from haystack_integrations.components.embedders.huggingface_api import HuggingFaceAPITextEmbedder

    embedder = HuggingFaceAPITextEmbedder(
        api_type="text_embeddings_inference", api_params={"url": url}, normalize=False, truncate=False
    )
    return [(text, float(embedder.run(text)["embedding"][0])) for text in texts]


async def _kserve(address: str, model: str, query: str, texts: Sequence[str], *, raw: bool) -> Answer:
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    def column(name: str, values: Sequence[str]) -> InferInput:
        if not raw:
            return InferInput(name, [len(values)], "BYTES", data=list(values))
        tensor = InferInput(name, [len(values)], "BYTES")
        tensor.set_data_from_numpy(np.array([value.encode() for value in values], object), binary_data=True)
        return tensor

    async with InferenceGRPCClient(address) as client:
        states = [
            await client.is_server_live(),
            await client.is_server_ready(),
            await client.is_model_ready(model),
        ]
        if states != [True, True, True]:
            raise AssertionError(f"live, ready and the model's ready are {states}")
        request = InferRequest(model, [column("prefix", [query]), column("items", texts)])
        scores = (await client.infer(request)).get_output_by_name("scores").as_numpy()
    return _best_first(texts, scores)


def kserve_typed(address: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    return asyncio.run(_kserve(address, model, query, texts, raw=False))


def kserve_raw(address: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    return asyncio.run(_kserve(address, model, query, texts, raw=True))


async def _kserve_http(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    raw = InferInput("items", [len(texts)], "BYTES")
    raw.set_data_from_numpy(np.array([text.encode() for text in texts], object), binary_data=True)
    request = InferRequest(model, [InferInput("prefix", [1], "BYTES", data=[query]), raw])
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    states = [
        await client.is_server_live(url),
        await client.is_server_ready(url),
        await client.is_model_ready(url, model),
    ]
    if states != [True, True, True]:
        raise AssertionError(f"live, ready and the model's ready are {states}")
    scores = (await client.infer(url, request, model_name=model)).get_output_by_name("scores").as_numpy()
    await client.close()
    return _best_first(texts, scores)


def kserve_http(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    return asyncio.run(_kserve_http(url, model, query, texts))


def triton_http(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from tritonclient import http as triton

    def column(name: str, values: Sequence[str]) -> Any:
        tensor = triton.InferInput(name, [len(values)], "BYTES")
        tensor.set_data_from_numpy(np.array([value.encode() for value in values], object))
        return tensor

    client = triton.InferenceServerClient(url.removeprefix("http://"))
    if not (client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)):
        raise AssertionError("it is not live and ready")
    names = [tensor["name"] for tensor in client.get_model_metadata(model)["inputs"]]
    if names[0] != "prefix" or client.get_model_config(model)["input"][0]["name"] != "prefix":
        raise AssertionError(f"inputs are {names}")
    return _best_first(
        texts, client.infer(model, [column("prefix", [query]), column("items", texts)]).as_numpy("scores")
    )


def _best_first(texts: Sequence[str], scores: Any) -> Answer:
    return [(texts[place], float(scores[place])) for place in np.argsort(-scores, kind="stable")]


_WRITTEN: dict[str, Any] = {
    "max_tokens": 8,
    "temperature": 0.0,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.25,
}


def _messages(query: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    return [{"role": "system", "content": query}, {"role": "user", "content": texts[0]}]


def openai_completion(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key="-")
    bias, extra = {"7": 1}, {"min_tokens": 2, "skip_special_tokens": True}
    answer = client.completions.create(
        model=model, prompt=[5, 6, 7], logprobs=2, logit_bias=bias, **_WRITTEN, extra_body=extra
    )
    (choice,) = answer.choices
    assert choice.text == "".join(choice.logprobs.tokens)
    return [(choice.text, answer.usage.completion_tokens)]


def openai_chat(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key="-")
    labels = {"user": "u", "store": False, "metadata": {"a": "b"}, "parallel_tool_calls": False}
    answer = client.chat.completions.create(
        model=model, messages=_messages(query, texts), logprobs=True, top_logprobs=3, **labels, **_WRITTEN
    )
    (choice,) = answer.choices
    assert {len(token.top_logprobs) for token in choice.logprobs.content} == {3}
    return [(choice.message.content, answer.usage.completion_tokens)]


def openai_chat_stream(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key="-")
    options = {"include_usage": True}
    parts = list(
        client.chat.completions.create(
            model=model,
            messages=_messages(query, texts),
            stream=True,
            stream_options=options,
            **_WRITTEN,
        )
    )
    text = "".join(choice.delta.content or "" for part in parts for choice in part.choices)
    return [(text, parts[-1].usage.completion_tokens)]


def _litellm_chat(
    provider: str, url: str, model: str, query: str, texts: Sequence[str], **more: Any
) -> Answer:
    import litellm

    asked = {"model": f"{provider}/{model}", "api_base": f"{url}/v1", "api_key": "-"}
    answer = litellm.completion(**asked, messages=_messages(query, texts), **_WRITTEN, **more)
    return [(answer.choices[0].message.content, answer.usage.completion_tokens)]


def litellm_chat(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    return _litellm_chat("openai", url, model, query, texts, parallel_tool_calls=True, user="u")


def litellm_vllm_chat(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    return _litellm_chat("hosted_vllm", url, model, query, texts, top_k=40, min_tokens=1)


def _langchain(url: str, model: str) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model=model, base_url=f"{url}/v1", api_key="-", stream_usage=True, **_WRITTEN)


def langchain_chat(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    answer = _langchain(url, model).invoke([("system", query), ("human", texts[0])])
    return [(answer.content, answer.usage_metadata["output_tokens"])]


def langchain_chat_stream(url: str, model: str, query: str, texts: Sequence[str]) -> Answer:
    parts = list(_langchain(url, model).stream([("system", query), ("human", texts[0])]))
    tokens = sum(part.usage_metadata["output_tokens"] for part in parts if part.usage_metadata)
    return [("".join(part.content for part in parts), tokens)]


RERANKERS: Sequence[Callable[..., Answer]] = (
    vllm_ranker,
    vllm_ranker_top,
    tei_ranker,
    tei_ranker_cut,
    jina_ranker,
    cohere_ranker,
    nvidia_ranker,
    llama_index_tei,
    llama_index_cohere,
    langchain_cohere,
    voyage_ranker,
    litellm_cohere,
    litellm_tei,
    litellm_vllm,
    kserve_http,
    triton_http,
)
ENCODERS: Sequence[Callable[..., Answer]] = (
    openai_embeddings,
    voyage_embeddings,
    cohere_embeddings,
    cohere_embeddings_v1,
    tei_embedder,
)
WRITERS: Sequence[Callable[..., Answer]] = (
    openai_completion,
    openai_chat,
    openai_chat_stream,
    litellm_chat,
    litellm_vllm_chat,
    langchain_chat,
    langchain_chat_stream,
)


def main(url: str, address: str, model: str, encoder: str, writer: str, query: str) -> None:
    texts: list[str] = json.load(sys.stdin)
    calls = {client.__name__: partial(client, url, model, query, texts) for client in RERANKERS}
    for client in (kserve_typed, kserve_raw):
        calls[client.__name__] = partial(client, address, model, query, texts)
    for client in ENCODERS:
        calls[client.__name__] = partial(client, url, encoder, query, texts)
    for client in WRITERS:
        calls[client.__name__] = partial(client, url, writer, query, texts)
    for name, call in calls.items():
        try:
            outcome: dict[str, Any] = {"client": name, "answer": call()}
        except Exception as error:
            outcome = {"client": name, "error": repr(error)}
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
