"""Plan of a bundle loaded on a device, run over device memory that others own.

Owns the plan's contexts, one a profile, over one working memory. Streams and tensors are the caller's, and what
memory the plan needs besides is `Places`'.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.devices.cuda.calls import CudaStream
from rankport.runtime.backends.devices.cuda.recording import Recording, record
from rankport.runtime.backends.devices.graph import ITEM_BYTES, DeviceArray
from rankport.runtime.backends.tensorrt.aligned_memory import ALIGNMENT_BYTES, Places
from rankport.runtime.backends.tensorrt.module import TensorRt, make_log, take_errors
from rankport.runtime.backends.tensorrt.profiles import Profile, choose, sizes_of
from rankport.runtime.backends.tensorrt.validity import is_on_listed_gpu
from rankport.runtime.bundle.manifest import DType, TensorSpec

log = logging.getLogger(__name__)

DTYPE_NAMES: dict[DType, str] = {
    "float32": "FLOAT",
    "float16": "HALF",
    "bfloat16": "BF16",
    "int64": "INT64",
    "int32": "INT32",
    "int8": "INT8",
}


@dataclass(frozen=True, slots=True)
class _Copy:
    source: int
    target: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Bound:
    """Context that has shapes and addresses of a pass, and the copies around it."""

    context: Any
    before: list[_Copy]
    after: list[_Copy]


class TensorRtGraph:
    """Loaded plan. Implements `DeviceGraph`."""

    def __init__(
        self,
        module: TensorRt,
        plan: memoryview,
        inputs: Sequence[TensorSpec],
        profiles: Sequence[Profile],
        cuda: CudaStream,
        *,
        weights: Path | None = None,
        allow_unsupported_gpu: bool = False,
    ) -> None:
        """Loads `plan`; `weights` is the ONNX file to take weights from, of a plan that holds none.

        Raises:
            UnsupportedGpu: TensorRT does not list this GPU, and to try is not allowed.
            BackendError: the plan cannot run on this GPU, or its memory does not fit.
        """
        self._module, self._cuda, self._profiles = module, cuda, tuple(profiles)
        self._allows_unsupported = allow_unsupported_gpu
        self._log = make_log(module)
        self._runtime = module.api.Runtime(self._log)
        self._places = Places(cuda)
        self._recordings: dict[int, Recording | None] = {}  # None: it cannot be recorded
        types = module.api.DataType
        self._item_bytes = {getattr(types, name): ITEM_BYTES[dtype] for dtype, name in DTYPE_NAMES.items()}
        self._loaded_plan: Any = None
        self._contexts: list[Any] = []
        try:
            self._load(plan, inputs, weights)
        except BaseException:
            self.close()
            raise

    @property
    def input_names(self) -> frozenset[str]:
        """See `DeviceGraph.input_names`."""
        return frozenset(self._inputs)

    @property
    def host_names(self) -> frozenset[str]:
        """See `DeviceGraph.host_names`."""
        return frozenset(self._host)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Ranges of the passes that it takes: those that fit one of them."""
        return self._profiles

    @property
    def is_on_listed_gpu(self) -> bool:
        """False where TensorRT does not list this GPU: numbers are compared before they are used."""
        return self._is_listed

    def run(
        self,
        inputs: Mapping[str, DeviceArray],
        host: Mapping[str, NDArray[np.int64]],
        outputs: Mapping[str, DeviceArray],
        *,
        fixed: int | None = None,
    ) -> None:
        """See `DeviceGraph.run`."""
        assert self._loaded_plan is not None, "closed"
        recording = None if fixed is None else self._recordings.get(fixed)
        if recording is not None:
            recording.launch()
            return
        context = self._contexts[choose(self._profiles, self._sizes(inputs, host))]
        bound = _Bound(
            context, self._bind_inputs(context, inputs, host), self._bind_outputs(context, outputs)
        )
        # Also before a recording: what changed shapes leave to do must be done outside of it.
        self._enqueue(bound)
        if fixed is not None and fixed not in self._recordings:
            self._recordings[fixed] = self._record(bound, fixed)

    def close(self) -> None:
        """Frees plan and memory; nothing may be enqueued any more."""
        if self._runtime is None:
            return
        if self._contexts:
            self._cuda.synchronize()
        for recording in self._recordings.values():
            if recording is not None:
                recording.close()
        self._recordings = {}
        # In this order: each needs those after it.
        self._contexts = []
        self._loaded_plan = None
        self._runtime = None
        self._places.close()

    def _load(self, plan: memoryview, inputs: Sequence[TensorSpec], weights: Path | None) -> None:
        module = self._module
        self._loaded_plan = self._deserialize(plan)
        if weights is not None:
            self._refit(weights)
        names = [
            self._loaded_plan.get_tensor_name(place) for place in range(self._loaded_plan.num_io_tensors)
        ]
        modes = module.api.TensorIOMode
        self._inputs = {name for name in names if self._loaded_plan.get_tensor_mode(name) == modes.INPUT}
        self._outputs = [name for name in names if name not in self._inputs]
        self._host = {
            name
            for name in self._inputs
            if self._loaded_plan.get_tensor_location(name) == module.api.TensorLocation.HOST
        }
        self._specs = [spec for spec in inputs if spec.name in self._inputs]
        self._check_dtypes()
        self._contexts = self._make_contexts()

    def _deserialize(self, plan: memoryview) -> Any:
        self._is_listed = is_on_listed_gpu(
            self._module, self._runtime, plan, self._log, allow_unsupported=self._allows_unsupported
        )
        loaded_plan = self._runtime.deserialize_cuda_engine(plan)
        if loaded_plan is None:
            raise BackendError(f"the plan cannot be loaded here: {take_errors(self._log)}")
        if loaded_plan.num_optimization_profiles != len(self._profiles):
            raise BackendError(
                f"the plan has {loaded_plan.num_optimization_profiles} profiles, its record {len(self._profiles)}: "
                "build it again"
            )
        return loaded_plan

    def _refit(self, weights: Path) -> None:
        refitter = self._module.api.Refitter(self._loaded_plan, self._log)
        weights_parser = self._module.api.OnnxParserRefitter(refitter, self._log)
        if not (weights_parser.refit_from_file(str(weights)) and refitter.refit_cuda_engine()):
            raise BackendError(f"weights of {weights.name} do not go into the plan: {take_errors(self._log)}")

    def _check_dtypes(self) -> None:
        for spec in self._specs:
            dtype = self._loaded_plan.get_tensor_dtype(spec.name)
            if dtype != getattr(self._module.api.DataType, DTYPE_NAMES[spec.dtype]):
                raise BackendError(f"the plan takes {spec.name} as {dtype}, its graph as {spec.dtype}")

    def _make_contexts(self) -> list[Any]:
        """Makes one a profile; passes follow one another on one stream, so they share their working memory."""
        size = max(ALIGNMENT_BYTES, int(self._loaded_plan.device_memory_size_v2))
        working = self._places.allocate(size)
        strategy = self._module.api.ExecutionContextAllocationStrategy.USER_MANAGED
        contexts = []
        for index in range(len(self._profiles)):
            context = self._loaded_plan.create_execution_context(strategy)
            if context is None:
                raise BackendError(f"no execution context: {take_errors(self._log)}")
            self._check(
                context.set_optimization_profile_async(index, self._cuda.handle), "choosing a profile"
            )
            context.set_device_memory(working, size)
            contexts.append(context)
        self._cuda.synchronize()
        return contexts

    def _sizes(
        self, inputs: Mapping[str, DeviceArray], host: Mapping[str, NDArray[np.int64]]
    ) -> dict[str, int]:
        shapes = {
            spec.name: host[spec.name].shape if spec.name in self._host else inputs[spec.name].shape
            for spec in self._specs
        }
        values = {name: int(host[name].reshape(-1)[0]) for name in self._host}
        return sizes_of(self._specs, shapes) | values

    def _bind_inputs(
        self, context: Any, inputs: Mapping[str, DeviceArray], host: Mapping[str, NDArray[np.int64]]
    ) -> list[_Copy]:
        """Gives the inputs to a context; returns what has to be copied before it runs."""
        copies = []
        for spec in self._specs:
            name = spec.name
            if name in self._host:
                values = self._places.on_host(name, host[name])
                shape, address = values.shape, values.ctypes.data
            else:
                array = inputs[name]
                assert array.dtype == spec.dtype, f"{name} is {array.dtype}, the graph takes {spec.dtype}"
                shape, address = array.shape, self._address(name, array)
                if address != array.pointer and array.nbytes:
                    copies.append(_Copy(array.pointer, address, array.nbytes))
            self._check(context.set_input_shape(name, shape), f"shape {list(shape)} of {name}")
            self._check(context.set_tensor_address(name, address), f"the address of {name}")
        return copies

    def _bind_outputs(self, context: Any, outputs: Mapping[str, DeviceArray]) -> list[_Copy]:
        """Gives the outputs to a context; returns what has to be copied after it ran."""
        copies = []
        try:
            lacking = context.infer_shapes()
        except RuntimeError as error:
            raise BackendError(f"TensorRT failed at the shapes of a pass: {error}") from error
        assert not lacking, f"no shape or address of {lacking}"
        for name in self._outputs:
            shape = tuple(context.get_tensor_shape(name))
            array = outputs.get(name)
            if array is None:
                address = self._places.place(name, self._nbytes(name, shape))
            else:
                assert array.shape == shape, f"{name} is {shape}, not {array.shape}"
                address = self._address(name, array)
                if address != array.pointer and array.nbytes:
                    copies.append(_Copy(address, array.pointer, array.nbytes))
            self._check(context.set_tensor_address(name, address), f"the address of {name}")
        return copies

    def _address(self, name: str, array: DeviceArray) -> int:
        """Returns where TensorRT finds a tensor: where it is, or, misaligned, where it is copied to or from."""
        if array.nbytes == 0:
            return self._places.nowhere()
        if array.pointer % ALIGNMENT_BYTES:
            return self._places.place(name, array.nbytes)
        return array.pointer

    def _nbytes(self, name: str, shape: tuple[int, ...]) -> int:
        return (
            int(np.prod(shape, dtype=np.int64)) * self._item_bytes[self._loaded_plan.get_tensor_dtype(name)]
        )

    def _enqueue(self, bound: _Bound) -> None:
        for copy in bound.before:
            self._copy(copy)
        self._check(bound.context.execute_async_v3(self._cuda.handle), "a pass")
        for copy in bound.after:
            self._copy(copy)

    def _copy(self, copy: _Copy) -> None:
        kind = self._cuda.runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._cuda.call("cudaMemcpyAsync", copy.target, copy.source, copy.nbytes, kind, self._cuda.handle)

    def _record(self, bound: _Bound, number: int) -> Recording | None:
        try:
            return record(self._cuda, lambda: self._enqueue(bound))
        except BackendError as error:
            log.warning("pass %d is not recorded, it is enqueued anew each time: %s", number, error)
            return None

    def _check(self, done: bool, what: str) -> None:
        if not done:
            raise BackendError(f"TensorRT failed at {what}: {take_errors(self._log)}")
