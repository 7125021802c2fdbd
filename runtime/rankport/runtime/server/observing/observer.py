"""`Observer`: has every call counted, logged and traced as it ends."""

from collections.abc import Iterable

from grpc import StatusCode

from rankport.protos.priorities import PRIORITY_KEY
from rankport.protos.versions import MODEL_KEY
from rankport.runtime.server.observing.book import CallBook
from rankport.runtime.server.observing.call import REQUEST_ID, Call, Front, read_headers, request_id_of
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.observing.recent import Recent
from rankport.runtime.server.observing.request_log import RequestLog, facts_of
from rankport.runtime.server.observing.tracing import Attributes, Tracing

# What a model is found for, in the conventions' words, and our own for what they have none of.
_OPERATIONS = {
    "generates": "text_completion",
    "encodes": "embeddings",
    "encodes_sparse": "embeddings",
    "scores": "rerank",
}


class Observer:
    """Sees the calls of all fronts of a server. Lives on its event loop."""

    def __init__(self, config: ObservingConfig, tracing: Tracing | None = None) -> None:
        self.book = CallBook()
        self.recent = Recent()
        self._log = RequestLog(config)
        self._tracing = tracing or Tracing()

    def begin(
        self,
        front: Front,
        method: str,
        pairs: Iterable[tuple[str, str]],
        *,
        streams: bool = False,
        verb: str = "",
    ) -> Call:
        """Makes the call that a front was sent, with its headers, whose names are in lower case; `verb` is HTTP's."""
        headers, twice = read_headers(pairs)
        span = self._tracing.span_of(_span_name(front, method, verb), headers)
        request_id, priority = request_id_of(headers.get(REQUEST_ID)), headers.get(PRIORITY_KEY)
        model = headers.get(MODEL_KEY, "")
        return Call(front, method, request_id, streams, span, twice, priority, model, verb=verb)

    def end(self, call: Call, code: str) -> None:
        """Takes notice of how a call ended, by the name of a gRPC status."""
        seconds = call.elapsed_s
        self.book.add(call, code, seconds)
        if code == "OK" and call.nbytes and not call.streams:
            self.recent.answered(seconds)
        self._log.write(call, code, seconds)
        if call.span is not None:
            call.span.end(code, _attributes(call, code, seconds))


def _attributes(call: Call, code: str, seconds: float) -> Attributes:
    facts = facts_of(call, code, seconds)
    del facts["trace_id"]
    own: Attributes = {f"rankport.{name}": value for name, value in facts.items()}
    front = _rpc_attributes(call, code) if call.front == "grpc" else _http_attributes(call)
    return own | front | _model_attributes(call)


def _span_name(front: Front, method: str, verb: str) -> str:
    """Names a span as OpenTelemetry's conventions do; of a method or path that there is not by what there is."""
    return " ".join(filter(None, (verb, method))) or front.upper()


def _rpc_attributes(call: Call, code: str) -> Attributes:
    said: Attributes = {
        "rpc.system": "grpc",
        "rpc.grpc.status_code": StatusCode[code].value[0],
    }
    service, _, method = call.method.rpartition(".")
    return said | ({"rpc.service": service, "rpc.method": method} if service else {})


def _http_attributes(call: Call) -> Attributes:
    said: Attributes = {"http.response.status_code": call.http_status}
    if call.method:
        said["http.route"] = call.method
        if "{" not in call.method:  # else the path has a name that its client wrote
            said["url.path"] = call.method
    return said | ({"http.request.method": call.verb} if call.verb else {})


def _model_attributes(call: Call) -> Attributes:
    """Says of a call that found its model what OpenTelemetry's conventions have of generative AI."""
    if not call.asked:
        return {}
    said: Attributes = {
        "gen_ai.provider.name": "rankport",
        "gen_ai.request.model": call.asked,
        "gen_ai.response.model": call.model,
    }
    if call.does in _OPERATIONS:
        chats = call.method.endswith("/chat/completions")
        said["gen_ai.operation.name"] = "chat" if chats else _OPERATIONS[call.does]
    if call.reasons:
        said["gen_ai.response.finish_reasons"] = call.reasons
    if (usage := call.usage) is not None:
        cached, writes = usage.prefix_tokens_cached, call.does == "generates"
        said["gen_ai.usage.input_tokens"] = (
            cached + usage.prefix_tokens_computed + (0 if writes else usage.item_tokens)
        )
        said["gen_ai.usage.cache_read.input_tokens"] = cached
        if writes:
            said["gen_ai.usage.output_tokens"] = usage.item_tokens
    return said
