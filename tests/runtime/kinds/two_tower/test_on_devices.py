"""The graphs of two towers on a device of host memory: the rows of the CPU backend, on each side."""

from contextlib import closing

import numpy as np
import pytest

from rankport.runtime.backends.ort.cpu import OnnxRuntimeTextBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRun, TokenRuns
from support.gpu.host_device import HostMemory, host_encoder


@pytest.mark.parametrize("role", ["represent-query", "represent-item"])
def test_a_device_gives_the_rows_of_the_cpu(wide_bundle: Bundle, role: str) -> None:
    rng = np.random.default_rng(0)
    texts = TokenRuns.of([TokenRun(rng.integers(4, 40, length)) for length in (1, 12, 5, 3, 9)])
    with (
        closing(OnnxRuntimeTextBackend(wide_bundle, role, EngineConfig(threads=1))) as cpu,
        closing(host_encoder(wide_bundle, HostMemory(), role=role)) as device,
    ):
        np.testing.assert_allclose(device.compute(texts), cpu.compute(texts), atol=1e-6)
