"""The results of passes on their way to the host, in the order in which the passes were started."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import FloatT, Started
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.transfers.regions import Region, Ring


@dataclass(slots=True)
class _Answer(Generic[FloatT]):
    """Results on their way."""

    reached: Callable[[], None] | None  # waits; None once they are here
    rows: NDArray[FloatT]  # until then in memory that others use after
    error: Exception | None = None  # for whoever reads them, nobody else

    def settle(self) -> None:
        """Waits the first time, and takes them out of that memory."""
        if self.reached is None:
            return
        wait, self.reached = self.reached, None
        try:
            wait()
        except Exception as error:
            self.error = error
        self.rows = self.rows.copy()

    def read(self) -> NDArray[FloatT]:
        """Raises what went wrong on the way."""
        self.settle()
        if self.error is not None:
            raise self.error
        return self.rows


class Downloads(Generic[FloatT]):
    """Device memory that a graph writes its results to, and host memory that they are copied to."""

    def __init__(self, memory: DeviceMemory, dtype: "np.dtype[FloatT]") -> None:
        self._memory, self._dtype = memory, dtype
        self._block, self._staged = Region(memory), Ring(memory)

    def hold(self, values: int) -> int:
        """Returns where a graph may write so many values. Moves when a pass needs more than any before."""
        self._block.hold(values * self._dtype.itemsize)
        return self._block.pointer

    def fetch(self, shape: tuple[int, ...]) -> Started[FloatT]:
        """Enqueues the copy of the first values of the block."""
        host = self._staged.take(math.prod(shape) * self._dtype.itemsize)
        self._memory.download(self._block.pointer, host)
        answer = _Answer(self._memory.mark(), host.view(self._dtype).reshape(shape))
        # One that nobody has read yet is taken out before its memory is used again.
        self._staged.sent(answer.settle)
        return Started(answer.read, done=False)

    def release(self) -> None:
        """Gives the block back, and the host memory; answers that were fetched may be read yet."""
        self._block.release()
        self._staged.release()
