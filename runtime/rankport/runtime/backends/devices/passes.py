"""Passes of one graph with one output on a device: inputs sent in one copy, one run, the output fetched in another."""

import math
from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np

from rankport.runtime.backends.contract import Started
from rankport.runtime.backends.devices.graph import DeviceArray, DeviceGraph, type_name
from rankport.runtime.backends.devices.memory import DeviceMemory
from rankport.runtime.backends.devices.recordings import Recordings
from rankport.runtime.backends.devices.transfers.downloads import Downloads
from rankport.runtime.backends.devices.transfers.uploads import Uploads
from rankport.runtime.backends.layouts.layout import HostArray
from rankport.runtime.bundle.manifest import Role


class GraphPasses:
    """A graph and what its passes keep on the device. Owns and closes graph and memory."""

    def __init__(
        self,
        role: Role,
        graph: DeviceGraph,
        memory: DeviceMemory,
        output: str,
        dtype: "np.dtype[np.floating]",
    ) -> None:
        """Loads nothing. `output` and `dtype` are of the graph's one output."""
        self._role, self._graph, self._memory = role, graph, memory
        self._output, self._dtype = output, type_name(dtype)
        self._uploads = Uploads(memory)
        self._downloads: Downloads[np.floating] = Downloads(memory, dtype)
        self._recordings = Recordings()

    @property
    def input_names(self) -> frozenset[str]:
        """Inputs that the graph reads."""
        return self._graph.input_names

    def start(
        self, inputs: Mapping[str, HostArray], shape: tuple[int, ...], fetched: tuple[int, ...]
    ) -> Started[np.floating]:
        """Starts a pass whose output has `shape`; of its first axis as many as `fetched`, a shape too, cross.

        Inputs that the graph does not read are left aside.
        """
        inputs = {name: inputs[name] for name in inputs if name in self._graph.input_names}
        sizes = tuple((name, array.shape) for name, array in inputs.items())
        sent = self._uploads.send(inputs)
        written = self._downloads.hold(math.prod(shape))
        fixed = self._recordings.number(self._role, sizes, (self._uploads.pointer, written))
        with self._recordings.counted(fixed):
            self._graph.run(sent, {}, {self._output: DeviceArray(written, shape, self._dtype)}, fixed=fixed)
        return self._downloads.fetch(fetched)

    def close(self) -> None:
        """Frees the graph, the workspace and the stream."""
        with ExitStack() as freed:  # after an error of the device too: the last step first
            freed.callback(self._memory.close)
            freed.callback(self._uploads.release)
            freed.callback(self._downloads.release)
            freed.callback(self._graph.close)
            self._memory.mark()()
