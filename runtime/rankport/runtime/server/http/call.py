"""Call of HTTP as endpoints see it, and what they answer with. Owns deadlines and a client that goes away."""

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.errors import InvalidRequest, RequestCancelled
from rankport.protos.messages.request_size import RequestSize
from rankport.protos.types import Truncation
from rankport.runtime.kinds.capabilities import (
    ClassifyingModel,
    EncodingModel,
    GeneratingModel,
    ScoringModel,
    SparseEncodingModel,
)
from rankport.runtime.server.core import Core
from rankport.runtime.server.http.answers import EventStream
from rankport.runtime.server.http.bodies import Receive
from rankport.runtime.server.models.models import Served
from rankport.runtime.server.observing.call import REQUEST_ID
from rankport.runtime.server.submitter import Submit

T = TypeVar("T")
TIMEOUT_HEADER = "x-timeout-s"


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer of an endpoint: what JSON writes, and headers beside it."""

    body: object
    headers: Mapping[str, str] = field(default_factory=dict)
    tensors: bytes | None = None  # behind it, as they are


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way."""

    core: Core
    events: EventStream  # for answers that come in parts
    deadline: float | None  # of the monotonic clock
    request_id: str = ""  # what an alias with several targets goes by
    named: Mapping[str, str] = field(default_factory=dict)  # by the path, where it has places for names
    tensors: bytes = b""  # behind the JSON of its body

    @classmethod
    def of(
        cls, core: Core, headers: Mapping[str, str], events: EventStream, named: Mapping[str, str]
    ) -> "Call":
        """Begins a call, whose time is what its header says. Raises `InvalidRequest` if that is no time."""
        said, request_id = headers.get(TIMEOUT_HEADER), headers.get(REQUEST_ID, "")
        if said is None:
            return cls(core, events, None, request_id, named)
        try:
            timeout_s = checked_timeout_s(float(said))
        except ValueError:  # InvalidRequest is one
            raise InvalidRequest(f"{TIMEOUT_HEADER} is {said!r:.40}: give seconds, 0 or more") from None
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        return cls(core, events, deadline, request_id, named)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left of its time; None: it has no end."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def scorer(self, name: str) -> Served[ScoringModel]:
        """Finds the model of that name if it scores, or the only one that does; to be entered while it works."""
        return self.core.models.scorer(name, self.request_id)

    def encoder(self, name: str) -> Served[EncodingModel]:
        """Finds the model of that name if it encodes, or the only one that does; to be entered while it works."""
        return self.core.models.encoder(name, self.request_id)

    def sparse_encoder(self, name: str) -> Served[SparseEncodingModel]:
        """Finds the model of that name if it makes weights of a vocabulary; to be entered while it works."""
        return self.core.models.sparse_encoder(name, self.request_id)

    def classifier(self, name: str) -> Served[ClassifyingModel]:
        """Finds the model of that name if it classifies, or the only one that does; to be entered while it works."""
        return self.core.models.classifier(name, self.request_id)

    def generator(self, name: str) -> Served[GeneratingModel]:
        """Finds the model of that name if it generates, or the only one that does; to be entered while it works."""
        return self.core.models.generator(name, self.request_id)

    async def run(self, submit: Submit[T]) -> T:
        """Has a model do some work, within the time that is left. Raises as `Submitter.run`."""
        return await self.core.submitter.run(submit, self.left_s)

    def truncation(self, cut: bool | None) -> Truncation:
        """Tells what becomes of long texts, where a client says so or, None, leaves it to the server."""
        return "truncate" if (self.core.config.http_truncate if cut is None else cut) else "error"

    def check_size(self, items: int, tokens: int = 0) -> None:
        """Takes items from the client's quota.

        Raises `LimitExceeded` for too many, or tokens that are known before texts are tokenized.
        """
        self.core.limits.check(RequestSize(items, tokens))
        self.core.admission.charge(items)


async def all_or_none(jobs: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Awaits all; the first to fail cancels the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def unless_gone(work: Awaitable[T], receive: Receive) -> T:
    """Does the work of a call whose body is read; drops it, and raises `RequestCancelled`, once its client is gone."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RequestCancelled("the client went away before its answer")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
