"""`LoadThreads`: threads in which models are loaded, warmed up and closed, beside the event loop of their server."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rankport.protos.errors import BackendError, Overloaded, Unavailable
from rankport.runtime.server.counts import wants_threads

T = TypeVar("T")
_THREADS = 2  # one version may drain while another one loads
_NAME = "rankport-load"


class LoadThreads:
    """Threads of one server. On its event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=_NAME)
        self._stopping = asyncio.Event()

    async def run(self, work: Callable[[], T]) -> T:
        """Does some work, and waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def load(self, work: Callable[[], T]) -> T:
        """Does work of a load, as long as the server does not stop: then that goes on alone, to no purpose.

        Raises `Unavailable` then, and `BackendError` where memory or threads run out: no try a moment later has more.
        """
        working = asyncio.ensure_future(self.run(work))
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if working.done():
            return _loaded(working)
        working.add_done_callback(lambda done: done.cancelled() or done.exception())  # of which nobody hears
        raise Unavailable("the server is stopping; load it when it has started again, or at another one")

    def stop(self) -> None:
        """Breaks off loads, also those that come."""
        self._stopping.set()

    def close(self) -> None:
        """Begins nothing more, and waits for nothing."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _loaded(work: "asyncio.Future[T]") -> T:
    try:
        return work.result()
    except Exception as error:  # `Overloaded` of an engine in another process
        if isinstance(error, MemoryError | Overloaded) or wants_threads(error):
            raise BackendError(
                f"no memory, or no thread, is left to load it beside what is served ({str(error) or 'MemoryError'}): "
                "unload a version before, or give the server more"
            ) from error
        raise


def loads_go_on() -> bool:
    """Says whether a thread of this process still loads a model: Python would end it after that alone."""
    return any(thread.name.startswith(_NAME) for thread in threading.enumerate())
