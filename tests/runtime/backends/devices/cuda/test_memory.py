"""Memory of a GPU: what it says where there is too little, and page-locked memory that ends.

The driver is played: what is tested is what we make of it. With a GPU the conformance tests run the real one.
"""

import gc
import threading

import pytest

from rankport.protos.errors import BackendError
from rankport.runtime.backends.devices.cuda.memory import CudaMemory
from support.gpu.cuda_driver import CudaDriver, Errors


def test_too_little_memory_is_told_with_its_reason_and_the_option_to_lower(driver: CudaDriver) -> None:
    memory = CudaMemory()
    driver.failing = {"cudaMallocAsync": Errors.cudaErrorMemoryAllocation}
    with pytest.raises(BackendError, match="cudaMallocAsync failed: cudaErrorMemoryAllocation") as refused:
        memory.allocate(10)
    assert refused.value.wants_memory
    with pytest.raises(BackendError, match=r"no 1.0 GiB for the prefix cache: lower --prefix-cache-bytes"):
        memory.reserve(2**30)
    driver.failing = {}
    assert memory.allocate(10).nbytes == 10


def test_page_locked_memory_is_freed_with_the_last_view_of_it(driver: CudaDriver) -> None:
    memory = CudaMemory()
    whole = memory.staging(64)
    part = whole[8:16]
    part[:] = 7
    del whole
    gc.collect()
    assert driver.freed == []
    del part
    gc.collect()
    assert len(driver.freed) == 1


def test_a_buffer_that_another_thread_drops_is_freed_by_the_one_that_drives(driver: CudaDriver) -> None:
    """Freed at once it would become a part of what is recorded meanwhile."""
    freed: list[tuple[int, int]] = []
    driver.cudaFreeAsync = lambda pointer, _: freed.append((pointer, threading.get_ident()))
    memory = CudaMemory()
    buffers = [memory.allocate(10)]
    thread = threading.Thread(target=buffers.clear)
    thread.start()
    thread.join()
    assert freed == []
    kept = memory.allocate(10)
    assert freed == [(4096, threading.get_ident())]
    memory.close()
    del kept  # later than the memory
    assert len(freed) == 2


def test_events_are_destroyed_with_their_marks_waited_for_or_not(
    driver: CudaDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    destroyed: list[object] = []
    monkeypatch.setattr(driver, "cudaEventDestroy", destroyed.append, raising=False)
    memory = CudaMemory()
    for waited in (True, False):
        mark = memory.mark()
        if waited:
            mark()
            mark()  # another who waits for the same pass
        assert not destroyed
        del mark
        assert len(destroyed) == 1
        destroyed.clear()
