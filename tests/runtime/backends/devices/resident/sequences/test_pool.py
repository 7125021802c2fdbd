"""Rows of sequences on a device: where a step finds them is told whenever it changes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.runtime.backends.devices.memory import Buffer
from rankport.runtime.backends.devices.resident.sequences.pool import DevicePool
from rankport.runtime.backends.layouts.kept import KeptState, KeptTensor
from support.gpu.host_device import HostMemory

KEY = KeptTensor("new_key.0", "past_key.0", 1, 4, "float32")
STATE = KeptState("new_conv_state.0", "past_conv_state.0", (2,), "float32")
ROOM = 2**18


class SameAddresses(HostMemory):
    """Memory that gives out a few addresses by turns, as a pool does with what is freed."""

    def __init__(self, addresses: int) -> None:
        super().__init__()
        self._places: list[NDArray[np.uint8]] = [np.zeros(ROOM, np.uint8) for _ in range(addresses)]
        self._turn = 0

    def allocate(self, nbytes: int) -> Buffer:
        assert nbytes <= ROOM
        self._turn = (self._turn + 1) % len(self._places)
        return Buffer(self._places[self._turn].ctypes.data, nbytes, lambda pointer: None)


@pytest.mark.parametrize("states", [(), (STATE,)])
def test_blocks_of_another_form_at_an_address_of_before_lie_elsewhere(states: tuple[KeptState, ...]) -> None:
    pool = DevicePool([KEY], states, SameAddresses(2 + 4 * len(states)), longest=512)
    (first,) = sequences = [pool.begin(())]
    forms = {}
    for _ in range(6):
        sequences.append(pool.begin(()))
        first.length += 60
        pool.make_room_behind(sequences)
        arrays = pool.past(1)
        lies = [(name, array.pointer) for name, array in arrays.items()]
        form = (*lies, arrays["past_key.0"].shape)
        assert forms.setdefault(pool.places, form) == form
    assert len({places[0] for places in forms}) < len(forms)
