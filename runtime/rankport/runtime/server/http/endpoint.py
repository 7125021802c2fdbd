"""Endpoint: the life of a request that has a JSON body, from its arrival to its answer or refusal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from rankport.protos.errors import (
    ERROR_METADATA_KEY,
    DeadlineExceeded,
    InvalidRequest,
    RankportError,
    Unauthenticated,
    http_status,
)
from rankport.runtime.server.core import Core
from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.failures import told
from rankport.runtime.server.http.answers import Answer, EventStream, UnreadError
from rankport.runtime.server.http.apart import apart
from rankport.runtime.server.http.bodies import HEADER_LENGTH, OCTETS, Bodies, Body
from rankport.runtime.server.http.call import Call, Reply, unless_gone
from rankport.runtime.server.http.dialect import Dialect
from rankport.runtime.server.http.forms import has_field, read_form
from rankport.runtime.server.http.json_text import about_bytes
from rankport.runtime.server.observing.call import REQUEST_ID, WorkingFor
from rankport.runtime.server.observing.call import Call as SeenCall
from rankport.runtime.server.security.guard import AUTHORIZATION


@dataclass(frozen=True, slots=True)
class Choice:
    """Dialect of a path, and a field by which it is told from others of that path; "" for any body, the last choice."""

    dialect: Dialect[Any]
    field: str = ""


class Endpoint:
    """ASGI application of one path. Its calls are admitted, counted and limited as those of every front."""

    def __init__(self, core: Core, bodies: Bodies, path: str, choices: Sequence[Choice]) -> None:
        self._core = core
        self._bodies = bodies
        self.path = path  # as the server writes it, with places for names
        self._choices = choices
        self._dialects = list(dict.fromkeys(choice.dialect for choice in reversed(choices)))[::-1]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it as its dialect does."""
        admission, headers = self._core.admission, Headers(scope=scope)
        admission.opened()
        try:
            idle_s = self._core.config.stream_idle_s
            begun = self._core.observer.begin("http", self.path, headers.items(), verb=scope["method"])
            with WorkingFor(begun) as seen:
                events = EventStream(send, idle_s, self._own_headers(headers, seen))
                answer = await self._answer(scope, headers, seen, receive, events)
            if answer is not None:
                own = self._own_headers(headers, seen)
                await replace(answer, headers={**answer.headers, **own}).send(send, idle_s)
        finally:
            admission.closed()

    def _own_headers(self, headers: Headers, seen: SeenCall) -> Mapping[str, str]:
        # Of two lengths a proxy may take the one, and what follows for another request; and a connection that is
        # kept would end, as the port closes, with a request on its way.
        ends = self._core.admission.leaving or _has_two_lengths(headers)
        return {REQUEST_ID: seen.request_id, **({"connection": "close"} if ends else {})}

    def _let_in(self, headers: Headers, seen: SeenCall) -> None:
        caller = self._core.guard.caller(headers.get(AUTHORIZATION), "call")
        seen.client, seen.quota, seen.only_priority = caller.name, caller.quota, caller.priority
        seen.take_priority("interactive")
        if _has_two_lengths(headers):
            raise InvalidRequest("content-length and transfer-encoding are both given: give one of them")

    async def _answer(
        self, scope: Scope, headers: Headers, seen: SeenCall, receive: Receive, events: EventStream
    ) -> Answer | None:
        """Makes the answer; None: it was sent as events."""
        dialects = self._dialects  # that it may be of
        try:
            with self._core.admission.counted(lambda: Outcome.CANCELLED):
                self._let_in(headers, seen)
                _check_query(scope["query_string"])
                call = Call.of(self._core, headers, events, scope["path_params"])
                self._check_unread(call, headers)
                with_tensors = self._choices[-1].dialect.with_tensors
                body = await self._bodies.read(headers, receive, with_tensors=with_tensors)
                dialects = [await apart(len(body), self._dialect_of, body.json)]
                with self._core.admission.admitted(len(body)):
                    return await self._worked_out(dialects[0], call, body, receive)
        except Exception as error:
            failure = told(error)
            self._core.observer.recent.failed(failure)
            if not events.begun:
                return self._refusal(dialects, failure)
            await _told_as_event(events, dialects[0].refusal(failure))
            return None

    def _check_unread(self, call: Call, headers: Headers) -> None:
        """Refuses what has no room before its body is read, of which the rest is thrown away as it comes."""
        length = headers.get("content-length", "")
        does = {choice.dialect.does for choice in self._choices}
        self._core.check_unread(
            does.pop() if len(does) == 1 else None, call.left_s, int(length) if length.isdecimal() else 0
        )

    async def _worked_out(
        self, dialect: Dialect[Any], call: Call, body: Body, receive: Receive
    ) -> Answer | None:
        form = await apart(len(body), read_form, body.json, dialect.form)
        if body.tensors:
            call = replace(call, tensors=body.tensors)
        reply: Reply | None = await unless_gone(dialect.answer(call, form), receive)
        if reply is None:
            await call.events.end()  # not before: an answer that is complete looks like a client that left
            return None
        answer = await apart(about_bytes(reply.body), Answer.of_json, reply.body, headers=reply.headers)
        if reply.tensors is not None:
            answer = answer.with_tensors(reply.tensors, HEADER_LENGTH, OCTETS)
        self._core.limits.check_bytes(len(answer.content), "the answer")
        return answer

    def _dialect_of(self, body: bytes) -> Dialect[Any]:
        *told_apart, last = self._choices
        return next((choice.dialect for choice in told_apart if has_field(body, choice.field)), last.dialect)

    def _refusal(self, dialects: Sequence[Dialect[Any]], error: RankportError) -> Answer:
        """Refuses a request in the words of all dialects that it may be of; where they differ, of the last one."""
        headers = {ERROR_METADATA_KEY: type(error).__name__, **self._retry_headers(error)}
        told: dict[str, object] = {}
        for dialect in dialects:
            told |= dialect.refusal(error)
        return Answer.of_json(told, http_status(error), headers)

    def _retry_headers(self, error: RankportError) -> Mapping[str, str]:
        if isinstance(error, Unauthenticated):
            return {"www-authenticate": "Bearer"}
        retry_after_s = self._core.admission.retry_hint_s(error)
        if retry_after_s is None:
            return {}
        # The standard's header has whole seconds; clients of OpenAI's and Cohere's kind read milliseconds first.
        return {
            "retry-after": str(-int(-retry_after_s // 1)),
            "retry-after-ms": str(round(retry_after_s * 1000)),
        }


def _check_query(query: bytes) -> None:
    if query:
        told = query.decode("latin-1")
        raise InvalidRequest(
            f"the address has a query, {told!r:.60}, which means nothing here: give fields in the body"
        )


async def _told_as_event(events: EventStream, refusal: object) -> None:
    """Ends events with an error. Raises `UnreadError` if the client reads nothing."""
    try:
        if not events.unread:
            await events.put(refusal)
            await events.end()
            return
    except DeadlineExceeded:
        pass
    raise UnreadError


def _has_two_lengths(headers: Headers) -> bool:
    return "content-length" in headers and "transfer-encoding" in headers
