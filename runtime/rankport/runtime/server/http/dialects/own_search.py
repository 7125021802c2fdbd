"""Our own searches as JSON: `/v1/rankport/search`, all that `Search` of the gRPC API takes."""

from concurrent.futures import Future

from rankport.protos.generation import SearchResult
from rankport.protos.messages.search_wire import BEAMS, TOP_K
from rankport.protos.types import Truncation
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect, openai_error
from rankport.runtime.server.http.forms import Form, PromptObject, prompt_tokens, prompt_value
from rankport.runtime.server.http.scoring import own_headers


class OwnSearch(Form):
    """Request of `Search`: see the gRPC API for what each field means."""

    model: str = ""
    prefix: str | PromptObject
    trie: str
    beams: int = BEAMS
    top_k: int = TOP_K
    truncation: Truncation = "error"


async def _search(call: Call, form: OwnSearch) -> Reply:
    call.check_size(1, form.beams + prompt_tokens(form.prefix))
    prompt = prompt_value(form.prefix)
    with call.generator(form.model) as served:

        def submit(left_s: float | None) -> "Future[SearchResult]":
            return served.model.submit_search(
                prompt, form.trie, left_s, beams=form.beams, top_k=form.top_k, truncation=form.truncation
            )

        found, model = await call.run(submit), served.description
    usage = {name: getattr(found.usage, name) for name in type(found.usage).__slots__}
    body = {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "keys": found.keys,
        "scores": found.scores.tolist(),
        "token_ids": found.token_ids.tolist(),
        "usage": usage,
    }
    return Reply(body, own_headers(model))


SEARCH = Dialect(
    "rankport: find items by the sequences of a trie", OwnSearch, _search, openai_error, "generates"
)
