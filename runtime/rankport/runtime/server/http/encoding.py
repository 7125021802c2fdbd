"""Vectors of texts: what all dialects of embeddings are made of."""

import base64
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ModelDescription, Side, Truncation
from rankport.runtime.kinds.capabilities import CountingModel, EncodingModel
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.scoring import own_headers
from rankport.runtime.server.models.models import Served

Inputs = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]
"""One text or its token ids, or a list of them."""
SIDES: Mapping[str, Side] = {"query": "query", "passage": "item", "document": "item"}
"""Sides of two towers by the `input_type` of a request."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Vectors of one request and the model that made them."""

    model: ModelDescription
    vectors: NDArray[np.float32]  # [texts, hidden]
    prompt_tokens: int  # that were read; 0 where they are not counted

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that say which model answered."""
        return own_headers(self.model)


async def encode_texts(
    call: Call,
    served: Served[EncodingModel],
    inputs: Inputs,
    truncation: Truncation,
    dimensions: int | None,
    *,
    side: Side | None = None,
    count: bool = False,
) -> Encoded:
    """Encodes texts with a model; tokens are counted where `count` asks for it, by tokenizing once more.

    Two towers read them as items, unless `side` says that they are queries.

    Raises `InvalidRequest` where it makes several tokens of a text, or vectors of another width than is asked for.
    """
    _check_width(served.description, dimensions)
    texts = _listed(inputs)
    call.check_size(len(texts), sum(len(text) for text in texts if not isinstance(text, str)))
    columns = ItemColumns.of(texts, "input")
    width = served.description.embedding_tokens * served.description.hidden_size
    call.core.limits.check_bytes(8 * len(texts) * width, "the answer")  # a number takes about as many in JSON
    model, counted = served.model, [0]

    def submit(left_s: float | None) -> "Future[NDArray[np.floating]]":
        if count and isinstance(model, CountingModel):
            counted[0] = model.count_tokens(columns, truncation=truncation)
        return model.submit_texts(columns, left_s, truncation=truncation, side=side)

    rows = await call.run(submit)
    return Encoded(served.description, rows[:, 0].astype(np.float32), counted[0])


def embedded(encoded: Encoded, *, in_base64: bool) -> Reply:
    """Writes vectors as lists, or as float32 in base64, with the usage that OpenAI's clients read."""
    vectors = encoded.vectors
    if in_base64:
        written: list[object] = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    else:
        written = vectors.tolist()
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(written)]
    usage = {"prompt_tokens": encoded.prompt_tokens, "total_tokens": encoded.prompt_tokens}
    body = {"object": "list", "model": encoded.model.name, "data": data, "usage": usage}
    return Reply(body, encoded.headers)


def _listed(inputs: Inputs) -> Sequence[str | Sequence[int]]:
    if isinstance(inputs, str):
        return [inputs]
    if inputs and isinstance(inputs[0], int):
        return [inputs]  # type: ignore[list-item]  # forms let no mixture through
    return inputs  # type: ignore[return-value]


def _check_width(model: ModelDescription, dimensions: int | None) -> None:
    if model.embedding_tokens != 1:
        raise InvalidRequest(
            f"model {model.name!r} makes {model.embedding_tokens} vectors of each text, and this request takes one: "
            "ask Encode of the gRPC API"
        )
    if dimensions is not None and dimensions != model.hidden_size:
        raise InvalidRequest(
            f"dimensions is {dimensions}: {model.name!r} makes {model.hidden_size}, leave it out"
        )
