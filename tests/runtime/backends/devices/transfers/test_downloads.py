"""Results on their way to the host: each is read as it was written, whatever became of others before it was."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import Started
from rankport.runtime.backends.devices.transfers.downloads import Downloads
from support.gpu.host_device import HostMemory

MOST = 4096


class LittleStaging(HostMemory):
    """Memory of a machine that locks no more than a few pages for copies."""

    def staging(self, nbytes: int) -> NDArray[np.uint8]:
        if nbytes > MOST:
            raise BackendError("no more page-locked memory")
        return super().staging(nbytes)


class Written:
    """Results that a graph would have written, each all of one number."""

    def __init__(self) -> None:
        self.memory = LittleStaging()
        self.downloads = Downloads(self.memory, np.dtype(np.float32))

    def fetch(self, number: float, values: int) -> Started[np.float32]:
        pointer = self.downloads.hold(values)
        self.memory.upload(np.full(values, number, np.float32).view(np.uint8), pointer)
        return self.downloads.fetch((values,))


def test_answers_that_nobody_has_read_outlive_later_ones() -> None:
    written = Written()
    started = [written.fetch(number, 8) for number in range(8)]
    for number, answer in reversed(list(enumerate(started))):
        assert answer.results().tolist() == [number] * 8
        assert answer.results().tolist() == [number] * 8


@pytest.mark.parametrize("failures", [1, 2])
def test_a_pass_whose_results_have_no_room_leaves_those_of_others_alone(failures: int) -> None:
    written = Written()
    first, second = written.fetch(1.0, 64), written.fetch(2.0, 64)
    for _ in range(failures):
        with pytest.raises(BackendError, match="page-locked"):
            written.fetch(3.0, MOST)
    third = written.fetch(4.0, 64)
    assert [answer.results()[0] for answer in (first, second, third)] == [1.0, 2.0, 4.0]
