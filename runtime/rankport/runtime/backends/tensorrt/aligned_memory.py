"""Memory that a plan needs beyond its caller's: to work in, and for tensors that lie where TensorRT takes none."""

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.devices.cuda.calls import CudaStream

ALIGNMENT_BYTES = 256
"""Alignment of every address that TensorRT is given."""


class Places:
    """Device memory by allocation, and a place of its own for a tensor by name. Nothing is freed before `close`."""

    def __init__(self, cuda: CudaStream) -> None:
        self._cuda = cuda
        self._allocated: list[int] = []
        self._places: dict[str, tuple[int, int]] = {}  # address and bytes
        self._on_host: dict[str, NDArray[np.int64]] = {}
        self._nowhere: int | None = None

    def allocate(self, nbytes: int) -> int:
        """Returns the aligned address of new memory. Raises `BackendError` where there is not enough."""
        address = int(self._cuda.call("cudaMalloc", nbytes))
        self._allocated.append(address)
        return address

    def nowhere(self) -> int:
        """Returns an address for tensors without an element: TensorRT wants one all the same."""
        if self._nowhere is None:
            self._nowhere = self.allocate(ALIGNMENT_BYTES)
        return self._nowhere

    def place(self, name: str, nbytes: int) -> int:
        """Returns the address of a tensor's own place. An outgrown place stays: recordings may use it."""
        if not nbytes:
            return self.nowhere()
        address, room = self._places.get(name, (0, 0))
        if nbytes > room:
            room = max(nbytes, 2 * room)
            address = self.allocate(room)
            self._places[name] = address, room
        return address

    def on_host(self, name: str, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Copies host values to where TensorRT takes them; it reads them while a pass is being enqueued."""
        place = self._on_host.get(name)
        if place is None or place.shape != values.shape:
            room = np.empty(ALIGNMENT_BYTES + max(values.nbytes, 1), np.uint8)
            start = -room.ctypes.data % ALIGNMENT_BYTES
            place = room[start : start + values.nbytes].view(np.int64).reshape(values.shape)
            self._on_host[name] = place
        place[...] = values
        return place

    def close(self) -> None:
        """Frees all of it, after what the stream has to do."""
        if self._allocated:
            self._cuda.synchronize()
        while self._allocated:
            self._cuda.call("cudaFree", self._allocated.pop())
        self._places, self._nowhere = {}, None
