"""The inputs of passes on their way to a device: those of one pass in one block, by one copy."""

from collections.abc import Mapping

from rankport.runtime.backends.devices.graph import DeviceArray, type_name
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.transfers.regions import Region, Ring
from rankport.runtime.backends.layouts.layout import HostArray

_ALIGNMENT = 256


class Uploads:
    """One block of device memory for the inputs of the pass at hand, and host memory to fill ahead of it."""

    def __init__(self, memory: DeviceMemory) -> None:
        self._memory = memory
        self._block, self._staged = Region(memory), Ring(memory)

    @property
    def pointer(self) -> int:
        """Address of the block: it moves when a pass needs more than any before."""
        return self._block.pointer

    def send(self, arrays: Mapping[str, HostArray]) -> dict[str, DeviceArray]:
        """Enqueues the copy. What an earlier pass was sent is written over, in the order of the stream."""
        places, end = {}, 0
        for name, array in arrays.items():
            places[name] = end
            end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        staged = self._staged.take(end)
        self._block.hold(end)
        placed = {}
        for name, array in arrays.items():
            start = places[name]
            array.write(staged[start : start + array.nbytes].view(array.dtype).reshape(array.shape))
            placed[name] = DeviceArray(self._block.pointer + start, array.shape, type_name(array.dtype))
        self._memory.upload(staged, self._block.pointer)
        self._staged.sent()
        return placed

    def release(self) -> None:
        """Gives the block back, and the host memory."""
        self._block.release()
        self._staged.release()
