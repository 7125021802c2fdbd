"""A CUDA driver that is played, in the place of the real one."""

import pytest

from rankport.runtime.backends.devices.cuda import calls
from support.gpu.cuda_driver import CudaDriver


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> CudaDriver:
    driver = CudaDriver()
    monkeypatch.setattr(calls, "load_cuda_runtime", lambda: driver)
    return driver
