"""`AsyncTextStream`: parts of a text as they come, for a loop, whether a server or a `Generator` writes it."""

from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Self

from rankport.protos.errors import RequestCancelled
from rankport.protos.generation import GeneratedPart, GenerateResult


class AsyncTextStream:
    """Parts of a text as they come; closing it, leaving its `async with`, or dropping it, ends the text."""

    def __init__(
        self, parts: AsyncGenerator[GeneratedPart, None], result: Callable[[], GenerateResult]
    ) -> None:
        """Takes the parts, which begin with the first one asked for, and what makes the whole text behind the last."""
        self._parts, self._result = parts, result
        self._complete = self._closed = False
        self._failure: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> GeneratedPart:
        """Gives the next part; raises what ended the text before its time."""
        try:
            return await anext(self._parts)
        except StopAsyncIteration:
            self._complete = self._complete or not (self._failure or self._closed)
            raise
        except Exception as error:
            self._failure = error
            raise
        except BaseException:  # the task was cancelled
            self._closed = True
            raise

    async def result(self) -> GenerateResult:
        """Reads the rest, and gives the whole text with its finish reason and usage.

        Raises as `Generator.generate`, and `RequestCancelled` for a text that was closed before its end.
        """
        async for _ in self:
            pass
        if self._failure is not None:
            raise self._failure
        if not self._complete:
            raise RequestCancelled("the text was closed before its end: begin it again")
        return self._result()

    async def aclose(self) -> None:
        """Ends the text, unless it is complete."""
        self._closed = True
        await self._parts.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
