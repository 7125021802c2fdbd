"""OpenAI's embeddings: `/v1/embeddings`."""

import base64
from typing import Annotated, Literal

from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.encoding import encode_texts
from rankport.runtime.server.http.forms import FAIL_FAST, Form, Texts, TokenIds


class OpenAiEmbeddings(Form):
    """Request of OpenAI's embeddings."""

    model: str = ""
    input: str | Texts | TokenIds | Annotated[list[TokenIds], FAIL_FAST]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None  # names the end user for logs, and has no effect


async def _embed(call: Call, form: OpenAiEmbeddings) -> Reply:
    with call.encoder(form.model) as served:
        encoded = await encode_texts(
            call, served, form.input, call.truncation(None), form.dimensions, count=True
        )
    vectors = encoded.vectors
    if form.encoding_format == "base64":
        written: list[object] = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    else:
        written = vectors.tolist()
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(written)]
    usage = {"prompt_tokens": encoded.prompt_tokens, "total_tokens": encoded.prompt_tokens}
    body = {"object": "list", "model": encoded.model.name, "data": data, "usage": usage}
    return Reply(body, encoded.headers)


EMBED = Dialect("OpenAI: encode texts", OpenAiEmbeddings, _embed, openai_error, "encodes")
