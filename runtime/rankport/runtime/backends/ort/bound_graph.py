"""A session of ONNX Runtime bound to device memory: runs, recordings and replays of one graph.

Owns neither the memory nor the choice of options: `cuda` opens sessions.
"""

import logging
import threading
from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.devices.graph import DeviceArray
from rankport.runtime.backends.ort.cuda_errors import reason_of
from rankport.runtime.bundle.manifest import DType

log = logging.getLogger(__name__)

_NOT_RECORDED = "-1"
_ON_HOST = frozenset(["kv_slots"])
_ELEMENT_TYPES: dict[DType, int] = {
    "float32": 1,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "float16": 10,
    "bfloat16": 16,
}
"""Numbers of ONNX's TensorProto.DataType."""
UNDISTURBED = threading.Lock()
"""Held while a pass is recorded, and while a session is made: that waits for the device, which breaks a recording."""


class BoundGraph:
    """One graph in ONNX Runtime, on a device whose memory it is bound to. Implements `DeviceGraph`."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        device: str,
        number: int = 0,
        *,
        records: bool,
        check_device: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Takes a session over. `check_device` raises where what failed, in words, is a device that is lost."""
        self._session: onnxruntime.InferenceSession | None = session
        self._place, self._records = (device, number), records
        self._check_device = check_device
        self._names = frozenset(value.name for value in session.get_inputs())
        self._bindings: dict[int, onnxruntime.IOBinding] = {}
        self._recorded: set[int] = set()
        self._refused: set[int] = set()  # numbers that could not be recorded

    @property
    def input_names(self) -> frozenset[str]:
        """See `DeviceGraph.input_names`."""
        return self._names

    @property
    def host_names(self) -> frozenset[str]:
        """See `DeviceGraph.host_names`."""
        return self._names & _ON_HOST

    def run(
        self,
        inputs: Mapping[str, DeviceArray],
        host: Mapping[str, NDArray[np.int64]],
        outputs: Mapping[str, DeviceArray],
        *,
        fixed: int | None = None,
    ) -> None:
        """See `DeviceGraph.run`. A pass that cannot be recorded, or replayed, runs without."""
        if fixed in self._refused:
            fixed = None
        if fixed is None or not self._records:
            self._run(inputs, host, outputs, fixed)
        elif not self._run_recorded(inputs, host, outputs, fixed):
            self._run(inputs, host, outputs, None)

    def _run_recorded(
        self,
        inputs: Mapping[str, DeviceArray],
        host: Mapping[str, NDArray[np.int64]],
        outputs: Mapping[str, DeviceArray],
        fixed: int,
    ) -> bool:
        """Records a pass, or replays it. Says whether it did: not while a session is made, and never again what failed.

        ONNX Runtime keeps recordings by thread: one that comes to a pass anew records it again.
        """
        first = fixed not in self._recorded
        if first and not UNDISTURBED.acquire(blocking=False):
            return False
        try:
            self._run(inputs, host, outputs, fixed)
            self._recorded.add(fixed)
        except BackendError as error:
            log.log(
                logging.DEBUG if self._refused else logging.WARNING,
                "a pass is not recorded and launches its kernels anew each time: %s",
                str(error),  # what keeps records would keep the session with the error itself
            )
            self._refused.add(fixed)
            self._bindings.pop(fixed, None)
            return False
        finally:
            if first:
                UNDISTURBED.release()
        return True

    def _run(
        self,
        inputs: Mapping[str, DeviceArray],
        host: Mapping[str, NDArray[np.int64]],
        outputs: Mapping[str, DeviceArray],
        fixed: int | None,
    ) -> None:
        assert self._session is not None, "closed"
        binding = self._bound(inputs, host, outputs, fixed)
        options = onnxruntime.RunOptions()
        if self._records:
            number = _NOT_RECORDED if fixed is None else str(fixed)
            options.add_run_config_entry("gpu_graph_id", number)
        # Whoever reads the results waits for the stream.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as error:  # onnxruntime's exception classes share no other base
            message = f"ONNX Runtime failed: {reason_of(error)}"
            self._check_device(message)
            raise BackendError(message) from error

    def close(self) -> None:
        """See `DeviceGraph.close`."""
        self._bindings.clear()
        self._session = None

    def _bound(
        self,
        inputs: Mapping[str, DeviceArray],
        host: Mapping[str, NDArray[np.int64]],
        outputs: Mapping[str, DeviceArray],
        fixed: int | None,
    ) -> onnxruntime.IOBinding:
        known = None if fixed is None else self._bindings.get(fixed)
        if known is not None:
            return known
        assert self._session is not None
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_input(name, *self._place, _ELEMENT_TYPES[array.dtype], array.shape, array.pointer)
        for name, values in host.items():
            binding.bind_cpu_input(name, values)
        for name, array in outputs.items():
            binding.bind_output(name, *self._place, _ELEMENT_TYPES[array.dtype], array.shape, array.pointer)
        if fixed is not None:
            self._bindings[fixed] = binding
        return binding
