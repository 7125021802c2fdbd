"""Memories of devices that backends make, and what they count."""

from dataclasses import dataclass, field

from rankport.runtime.backends.devices.cuda.memory import CudaMemory
from rankport.runtime.backends.devices.memory import Transfers


@dataclass(slots=True)
class Memories:
    """Keeps those that are made."""

    made: list[CudaMemory] = field(default_factory=list)

    def make(self, device: int = 0) -> CudaMemory:
        """Makes one, in the place of its class."""
        self.made.append(CudaMemory(device))
        return self.made[-1]

    def transfers(self) -> Transfers:
        """Sums what they moved by now."""
        counts = [memory.transfers for memory in self.made]
        return Transfers(
            sum(count.to_device for count in counts),
            sum(count.to_host for count in counts),
            sum(count.on_device for count in counts),
        )
