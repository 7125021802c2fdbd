"""Requests and answers of a stream of scores, as clients take and give them; and their messages, for both sides."""

from collections.abc import Iterable
from dataclasses import dataclass

from grpc import StatusCode

from rankport.protos.arguments import checked_text, checked_timeout_s
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import InvalidRequest, Overloaded, RankportError, from_status
from rankport.protos.features import FeatureColumns
from rankport.protos.messages import wire
from rankport.protos.types import Features, Item, OnMissing, Query, ScoreResult, Truncation
from rankport.protos.v1 import rankport_pb2 as pb


@dataclass(frozen=True, slots=True)
class ScoreCall:
    """One request of a stream: the arguments of `Client.score`, under an id of the caller's."""

    id: str
    prefix: Query
    items: Iterable[Item] | ItemColumns
    truncation: Truncation = "error"
    on_missing: OnMissing = "skip"
    features: Features | FeatureColumns | None = None
    timeout_s: float | None = None  # from its arrival at the server


@dataclass(frozen=True, slots=True)
class StreamedScore:
    """Answer to one request of a stream: a result, or the error that it alone has ended with."""

    id: str
    result: ScoreResult | None
    error: RankportError | None = None

    def value(self) -> ScoreResult:
        """Returns the result, or raises the error."""
        if self.result is None:
            raise self.error or InvalidRequest(f"answer {self.id!r} has neither result nor error")
        return self.result


def call_message(model: str, call: ScoreCall) -> pb.ScoreStreamRequest:
    """Writes a request; `InvalidRequest` if an argument does not fit the wire."""
    return pb.ScoreStreamRequest(
        id=checked_text(call.id, "id"),
        request=wire.score_request(
            model, call.prefix, call.items, call.truncation, call.on_missing, call.features
        ),
        timeout_s=checked_timeout_s(call.timeout_s) or 0.0,
    )


def answer_value(message: pb.ScoreStreamResponse) -> StreamedScore:
    """Reads an answer; `InvalidRequest` if its parts do not fit each other."""
    if message.WhichOneof("outcome") == "response":
        return StreamedScore(message.id, wire.score_result(message.response))
    error = from_status(StatusCode.INTERNAL, message.error.message, message.error.name)
    if isinstance(error, Overloaded):
        error.retry_after_s = message.error.retry_after_s
    return StreamedScore(message.id, None, error)


def error_message(id: str, error: RankportError, retry_after_s: float | None) -> pb.ScoreStreamResponse:
    """Writes what a request has ended with instead of a result."""
    told = pb.StreamError(name=type(error).__name__, message=str(error), retry_after_s=retry_after_s or 0.0)
    return pb.ScoreStreamResponse(id=id, error=told)
