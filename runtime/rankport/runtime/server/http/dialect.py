"""`Dialect`: one way of asking for work over HTTP, and the bodies of errors that more than one dialect has."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Generic

from rankport.protos.errors import RankportError, http_status
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.forms import FormT


@dataclass(frozen=True, slots=True)
class Dialect(Generic[FormT]):
    """Form of a request, what answers it, and how its clients are told of an error."""

    summary: str
    form: type[FormT]
    answer: Callable[[Call, FormT], Awaitable[Reply | None]]  # None: it is sent already, as the call's events
    refusal: Callable[[RankportError], Mapping[str, object]]
    does: Capability | None = "scores"  # of the models that answer it; None: any
    with_tensors: bool = False  # takes tensors as they are, behind its JSON


def kserve_error(error: RankportError) -> Mapping[str, object]:
    """Writes an error as KServe's protocol does."""
    return {"error": str(error)}


def openai_error(error: RankportError, status: int | None = None) -> Mapping[str, object]:
    """Writes an error as OpenAI, vLLM and our own API do; `status` where it is not the error's own."""
    name, code = type(error).__name__, status or http_status(error)
    return {"error": {"message": str(error), "type": name, "param": None, "code": code}}
