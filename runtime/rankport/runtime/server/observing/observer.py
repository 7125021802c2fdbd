"""`Observer`: has every call counted, logged and traced as it ends."""

from collections.abc import Iterable

from rankport.protos.priorities import PRIORITY_KEY
from rankport.protos.versions import MODEL_KEY
from rankport.runtime.server.observing.book import CallBook
from rankport.runtime.server.observing.call import REQUEST_ID, Call, Front, read_headers, request_id_of
from rankport.runtime.server.observing.config import ObservingConfig
from rankport.runtime.server.observing.recent import Recent
from rankport.runtime.server.observing.request_log import RequestLog, facts_of
from rankport.runtime.server.observing.tracing import Tracing


class Observer:
    """Sees the calls of all fronts of a server. Lives on its event loop."""

    def __init__(self, config: ObservingConfig, tracing: Tracing | None = None) -> None:
        self.book = CallBook()
        self.recent = Recent()
        self._log = RequestLog(config)
        self._tracing = tracing or Tracing()

    def begin(
        self, front: Front, method: str, pairs: Iterable[tuple[str, str]], *, streams: bool = False
    ) -> Call:
        """Makes the call that a front was sent, with its headers, whose names are in lower case."""
        headers, twice = read_headers(pairs)
        span = self._tracing.span_of(method, headers)
        request_id, priority = request_id_of(headers.get(REQUEST_ID)), headers.get(PRIORITY_KEY)
        model = headers.get(MODEL_KEY, "")
        return Call(front, method, request_id, streams, span, twice, priority, model)

    def end(self, call: Call, code: str) -> None:
        """Takes notice of how a call ended, by the name of a gRPC status."""
        seconds = call.elapsed_s
        self.book.add(call, code, seconds)
        if code == "OK" and call.nbytes and not call.streams:
            self.recent.answered(seconds)
        self._log.write(call, code, seconds)
        if call.span is not None:
            call.span.end(code, _attributes(call, code, seconds))


def _attributes(call: Call, code: str, seconds: float) -> dict[str, str | int | float]:
    facts = facts_of(call, code, seconds)
    del facts["trace_id"]
    own: dict[str, str | int | float] = {f"rankport.{name}": value for name, value in facts.items()}
    return own | ({"rpc.system": "grpc"} if call.front == "grpc" else {"url.path": call.method})
