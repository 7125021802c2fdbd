"""OpenAI's embeddings: `/v1/embeddings`, with what vLLM and NIM add to them."""

from typing import Annotated, Literal

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Truncation
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.encoding import SIDES, embedded, encode_texts
from rankport.runtime.server.http.forms import FAIL_FAST, Form, Texts, TokenIds
from rankport.runtime.server.http.vllm_options import cuts


class OpenAiEmbeddings(Form):
    """Request of OpenAI's embeddings."""

    model: str = ""
    input: str | Texts | TokenIds | Annotated[list[TokenIds], FAIL_FAST]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None  # names the end user for logs, and has no effect
    truncate_prompt_tokens: int | None = None  # of vLLM; -1: to what the model takes
    input_type: Literal["query", "passage", "document"] | None = None  # of NIM: the side of two towers
    truncate: Literal["NONE", "END"] | None = None  # of NIM

    def truncation(self, call: Call) -> Truncation:
        """Tells what becomes of long texts. Raises `InvalidRequest` for two answers, or a cut that there is not."""
        cut = cuts(self.truncate_prompt_tokens)
        if self.truncate is not None:
            if cut is not None:
                raise InvalidRequest("truncate and truncate_prompt_tokens are both given: give one of them")
            cut = self.truncate == "END"
        return call.truncation(cut)


async def _embed(call: Call, form: OpenAiEmbeddings) -> Reply:
    side = None if form.input_type is None else SIDES[form.input_type]
    with call.encoder(form.model) as served:
        encoded = await encode_texts(
            call, served, form.input, form.truncation(call), form.dimensions, side=side, count=True
        )
    return embedded(encoded, in_base64=form.encoding_format == "base64")


EMBED = Dialect("OpenAI, vLLM and NIM: encode texts", OpenAiEmbeddings, _embed, openai_error, "encodes")
