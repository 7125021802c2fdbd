"""Texts that a server writes, as both clients give them: whole, or in parts as they come."""

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import grpc

from rankport.protos.errors import Unavailable
from rankport.protos.generation import GeneratedPart, GenerateResult, Sampling, SearchResult
from rankport.protos.messages import generate_wire, search_wire
from rankport.protos.priorities import Priority
from rankport.protos.processes.own_process import OwnProcess, StaysInProcess
from rankport.protos.text_stream import AsyncTextStream
from rankport.protos.types import Prefix, Truncation
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.sdk._remote import rankport_errors
from rankport.sdk.calls import Calls, CallsInLoops
from rankport.sdk.transport.retries import REFUSALS, Tries
from rankport.sdk.transport.tracing import Metadata, trace_metadata

AS_THE_BUNDLE_SAYS = Sampling()


@dataclass(slots=True)
class _Told:
    """Parts that a server told of a text so far, and its end."""

    parts: list[GeneratedPart] = field(default_factory=list)
    last: pb.GenerateResponse | None = None  # that says how it ended

    def take(self, message: pb.GenerateResponse) -> Sequence[GeneratedPart]:
        """Takes a message, and gives its parts."""
        parts = generate_wire.part_values(message)
        self.parts += parts
        self.last = message if generate_wire.is_last(message) else None
        return parts


class WrittenText(StaysInProcess):
    """Parts of a text as a server writes them; closing it, or leaving its `with`, ends the text."""

    def __init__(
        self,
        begin: Callable[[float | None], "grpc._CallIterator[pb.GenerateResponse]"],
        sampling: Sampling,
        address: str,
        timeout_s: float | None,
        tries: Tries,
    ) -> None:
        """Takes what begins an attempt of so many seconds; `timeout_s` is for all of them."""
        self._begin, self._sampling, self._tries = begin, sampling, tries
        self._address, self._timeout_s = address, timeout_s
        self._closed = threading.Event()
        with rankport_errors(address, timeout_s):
            self._call = begin(tries.left_s())
        self._process = OwnProcess()
        self._told = _Told()

    def __iter__(self) -> Iterator[GeneratedPart]:
        """Yields the parts that are still to come; raises what ended the text before its time.

        A text that no server took is begun anew, until its first part is there.
        """
        while True:
            try:
                yield from self._answered()
                return
            except REFUSALS as error:
                if self._told.parts or self._closed.wait(self._tries.wait_s(error)):
                    raise
                with rankport_errors(self._address, self._timeout_s):
                    self._call = self._begin(self._tries.left_s())
                if self._closed.is_set():  # meanwhile, by a thread that cancelled the attempt before
                    self._call.cancel()

    def result(self) -> GenerateResult:
        """Reads the rest, and gives the whole text; raises as `Generator.generate`."""
        for _ in self:
            pass
        told = self._told
        return generate_wire.generate_result(told.parts, ended(told.last, self._address), self._sampling)

    def close(self) -> None:
        """Ends the text, unless it is complete, or the parent's of this process."""
        if not self._process.forked:
            self._closed.set()
            self._call.cancel()

    def _answered(self) -> Iterator[GeneratedPart]:
        messages = self._process.steps(self._call, f"a text of {self._address} was begun", "begin it")
        with rankport_errors(self._address, self._timeout_s):
            for message in messages:
                yield from self._told.take(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Generates(Calls):
    """Calls of the client that blocks to models that write."""

    def generate(
        self,
        prompt: Prefix,
        sampling: Sampling = AS_THE_BUNDLE_SAYS,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        priority: Priority | None = None,
    ) -> GenerateResult:
        """Writes a text behind a prompt. Arguments, result and errors are those of `Generator.generate`."""
        request = generate_wire.generate_request(self._model, prompt, sampling, truncation)
        timeout_s = self._timeout(timeout_s)
        tries = self._retries.tries(timeout_s)
        while True:
            try:
                with self._written(request, sampling, timeout_s, tries, priority) as text:
                    return text.result()
            except REFUSALS as error:
                time.sleep(tries.wait_s(error))

    def stream(
        self,
        prompt: Prefix,
        sampling: Sampling = AS_THE_BUNDLE_SAYS,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        priority: Priority | None = None,
    ) -> WrittenText:
        """Writes a text and gives its parts as they come. Arguments and errors are those of `Generator.stream`."""
        request = generate_wire.generate_request(self._model, prompt, sampling, truncation)
        timeout_s = self._timeout(timeout_s)
        return self._written(request, sampling, timeout_s, self._retries.tries(timeout_s), priority)

    def search(
        self,
        prompt: Prefix,
        trie: str,
        timeout_s: float | None = None,
        *,
        beams: int = search_wire.BEAMS,
        top_k: int = search_wire.TOP_K,
        truncation: Truncation = "error",
        priority: Priority | None = None,
    ) -> SearchResult:
        """Finds the likeliest items of a trie that the server has, by its name. The rest is as `Generator.search`."""
        request = search_wire.search_request(self._model, prompt, trie, beams, top_k, truncation)
        response = self._answer(lambda to: to.generation.Search, request, self._timeout(timeout_s), priority)
        return search_wire.search_result(response)

    @abstractmethod
    def _written(
        self,
        request: pb.GenerateRequest,
        sampling: Sampling,
        timeout_s: float | None,
        tries: Tries,
        priority: Priority | None,
    ) -> WrittenText:
        """Begins one text, within what `tries` have left of the caller's `timeout_s`."""


class GeneratesInLoops(CallsInLoops):
    """Calls of the asyncio client to models that write."""

    async def generate(
        self,
        prompt: Prefix,
        sampling: Sampling = AS_THE_BUNDLE_SAYS,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        priority: Priority | None = None,
    ) -> GenerateResult:
        """Writes as `Client.generate`."""
        request = generate_wire.generate_request(self._model, prompt, sampling, truncation)
        timeout_s = self._timeout(timeout_s)
        tries, traced = self._retries.tries(timeout_s), trace_metadata(priority, self._model)
        while True:
            told = _Told()
            try:
                async for message in self._written(request, timeout_s, tries.left_s(), traced):
                    told.take(message)
                return generate_wire.generate_result(told.parts, ended(told.last, "the server"), sampling)
            except REFUSALS as error:
                await asyncio.sleep(tries.wait_s(error))

    def stream(
        self,
        prompt: Prefix,
        sampling: Sampling = AS_THE_BUNDLE_SAYS,
        timeout_s: float | None = None,
        *,
        truncation: Truncation = "error",
        priority: Priority | None = None,
    ) -> AsyncTextStream:
        """Writes a text and gives its parts as they come, then the whole; it begins with the first one asked for."""
        request = generate_wire.generate_request(self._model, prompt, sampling, truncation)
        traced, told = trace_metadata(priority, self._model), _Told()
        parts = self._streamed_text(request, self._timeout(timeout_s), traced, told)
        return AsyncTextStream(
            parts,
            lambda: generate_wire.generate_result(told.parts, ended(told.last, "the server"), sampling),
        )

    async def _streamed_text(
        self, request: pb.GenerateRequest, timeout_s: float | None, traced: Metadata | None, told: "_Told"
    ) -> AsyncGenerator[GeneratedPart, None]:
        """Yields the parts of a text, begun anew where no server took it; ending the iteration ends the text."""
        tries, begun = self._retries.tries(timeout_s), False
        while True:
            try:
                async for message in self._written(request, timeout_s, tries.left_s(), traced):
                    begun = True
                    for part in told.take(message):
                        yield part
                return
            except REFUSALS as error:
                if begun:
                    raise
                await asyncio.sleep(tries.wait_s(error))

    async def search(
        self,
        prompt: Prefix,
        trie: str,
        timeout_s: float | None = None,
        *,
        beams: int = search_wire.BEAMS,
        top_k: int = search_wire.TOP_K,
        truncation: Truncation = "error",
        priority: Priority | None = None,
    ) -> SearchResult:
        """Searches as `Client.search`."""
        request = search_wire.search_request(self._model, prompt, trie, beams, top_k, truncation)
        response = await self._answer(
            lambda to: to.generation.Search, request, self._timeout(timeout_s), priority
        )
        return search_wire.search_result(response)

    @abstractmethod
    def _written(
        self,
        request: pb.GenerateRequest,
        timeout_s: float | None,
        left_s: float | None,
        traced: Metadata | None,
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Yields the messages of one text, for which `left_s` of the caller's `timeout_s` are left."""


def ended(last: pb.GenerateResponse | None, address: str) -> pb.GenerateResponse:
    """Returns the last message. Raises `Unavailable` for a text that ended without one."""
    if last is None:
        raise Unavailable(f"{address} ended a text without saying how: ask again")
    return last
