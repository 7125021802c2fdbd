"""Loads that find no memory, and no thread, left."""

import asyncio
from collections.abc import Callable

import pytest

from rankport.protos.errors import BackendError, BundleError, Overloaded
from rankport.runtime.server.lifecycle.load_threads import LoadThreads


def _load(work: Callable[[], object]) -> object:
    async def load() -> object:
        threads = LoadThreads()
        try:
            return await threads.load(work)
        finally:
            threads.close()

    return asyncio.run(load())


@pytest.mark.parametrize(
    "lack", [MemoryError(), RuntimeError("can't start new thread"), Overloaded("MemoryError: of an engine")]
)
def test_a_load_that_lacks_memory_or_threads_is_none_to_be_tried_again_at_once(lack: Exception) -> None:
    def load() -> object:
        raise lack

    told = (
        r"is left to load it beside what is served \((MemoryError|can't start).*\): unload a version before"
    )
    with pytest.raises(BackendError, match=told):
        _load(load)


def test_other_errors_of_a_load_are_their_own() -> None:
    def load() -> object:
        raise BundleError("it is another one")

    with pytest.raises(BundleError, match="it is another one"):
        _load(load)
    assert _load(lambda: 7) == 7
