"""A stand-in for TensorRT and the CUDA runtime: plans that compute nothing and write down what is done with them.

It is as strict as the real one: nothing is enqueued without shapes and addresses of every tensor, and nothing of a
recording runs before it is launched.
"""

import enum
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

Shape = tuple[int, ...]


class FakeCuda:
    """Replaces functions of `cuda.bindings.runtime`. Addresses are multiples of 256 and never used again."""

    def __init__(self) -> None:
        self.allocated: dict[int, int] = {}  # bytes by address
        self.log: list[tuple[str, Any]] = []  # what ran, in order
        self.recording: list[tuple[str, Any]] | None = None
        self.open_recordings = 0
        self.fails: set[str] = set()
        self._next = 0x1000

    def install(self, patch: Callable[[str, object], None]) -> None:
        """Calls `patch(name, function)` for each function."""
        for name in dir(self):
            if name.startswith("cuda"):
                patch(name, self._checked(name))

    def ran(self, what: str, detail: Any) -> None:
        (self.log if self.recording is None else self.recording).append((what, detail))

    def cudaGetDeviceCount(self) -> tuple[int, int]:  # noqa: N802
        return 0, 1

    def cudaSetDevice(self, device: int) -> tuple[int]:  # noqa: N802
        return (0,)

    def cudaThreadExchangeStreamCaptureMode(self, mode: int) -> tuple[int, int]:  # noqa: N802
        return 0, 0

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:  # noqa: N802
        return 0, 7

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:  # noqa: N802
        return (0,)

    def cudaStreamQuery(self, stream: int) -> tuple[object]:  # noqa: N802
        return (SimpleNamespace(name="lost") if "cudaStreamQuery" in self.fails else 0,)

    def cudaMalloc(self, nbytes: int) -> tuple[int, int]:  # noqa: N802
        address, self._next = self._next, self._next + -(-nbytes // 256) * 256
        self.allocated[address] = nbytes
        return 0, address

    def cudaFree(self, address: int) -> tuple[int]:  # noqa: N802
        del self.allocated[address]
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, nbytes: int, kind: object, stream: int) -> tuple[int]:  # noqa: N802
        self.ran("copy", (source, target, nbytes))
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:  # noqa: N802
        assert self.recording is None
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: object) -> tuple[int]:  # noqa: N802
        self.recording = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, object]:  # noqa: N802
        recorded, self.recording = self.recording, None
        return 0, recorded

    def cudaGraphInstantiate(self, graph: object, flags: int) -> tuple[int, object]:  # noqa: N802
        self.open_recordings += 1
        return 0, graph

    def cudaGraphDestroy(self, graph: object) -> tuple[int]:  # noqa: N802
        return (0,)

    def cudaGraphExecDestroy(self, graph: object) -> tuple[int]:  # noqa: N802
        self.open_recordings -= 1
        return (0,)

    def cudaGraphLaunch(self, graph: list[tuple[str, Any]], stream: int) -> tuple[int]:  # noqa: N802
        self.log += [("launch", stream), *graph]
        return (0,)

    def cudaGetLastError(self) -> tuple[int]:  # noqa: N802
        return (0,)

    def cudaGetErrorString(self, error: object) -> tuple[int, bytes]:  # noqa: N802
        return 0, b"as the test wants"

    def _checked(self, name: str) -> Callable[..., tuple[Any, ...]]:
        function = getattr(self, name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            if name in self.fails:
                return SimpleNamespace(name="failed"), None
            done: tuple[Any, ...] = function(*arguments)
            return done

        call.__name__ = name
        return call


class _Names(enum.Enum):
    FLOAT = 1
    HALF = 2
    BF16 = 3
    INT64 = 4
    INT32 = 5
    INT8 = 11
    INPUT = 6
    OUTPUT = 7
    HOST = 8
    DEVICE = 9
    USER_MANAGED = 10


class FakeApi:
    """The module. Tensors are {name: (shape of a pass or a function of the inputs' shapes, dtype)}."""

    DataType = TensorIOMode = TensorLocation = ExecutionContextAllocationStrategy = _Names
    ILogger = type(
        "ILogger", (), {"Severity": SimpleNamespace(ERROR=1, INTERNAL_ERROR=0), "__init__": lambda self: None}
    )

    def __init__(
        self,
        cuda: FakeCuda,
        inputs: Mapping[str, str],
        outputs: Mapping[str, tuple[Callable[[Mapping[str, Shape]], Shape], str]],
        *,
        host: tuple[str, ...] = (),
        profiles: int = 1,
    ) -> None:
        self.cuda, self.inputs, self.outputs = cuda, inputs, outputs
        self.host, self.profiles = host, profiles
        self.contexts: list[FakeContext] = []
        self.refitted: list[str] = []
        self.fails: set[str] = set()

    def Runtime(self, log: object) -> Any:  # noqa: N802
        return SimpleNamespace(
            deserialize_cuda_engine=lambda plan: FakeLoadedPlan(self) if len(plan) else None
        )

    def Refitter(self, plan: object, log: object) -> Any:  # noqa: N802
        return SimpleNamespace(refit_cuda_engine=lambda: "refit" not in self.fails)

    def OnnxParserRefitter(self, refitter: object, log: object) -> Any:  # noqa: N802
        return SimpleNamespace(refit_from_file=lambda file: self.refitted.append(file) or True)


class FakeLoadedPlan:
    def __init__(self, api: FakeApi) -> None:
        self._api = api
        self._names = [*api.inputs, *api.outputs]
        self.num_io_tensors = len(self._names)
        self.num_optimization_profiles = api.profiles
        self.device_memory_size_v2 = 4096

    def get_tensor_name(self, place: int) -> str:
        return self._names[place]

    def get_tensor_mode(self, name: str) -> _Names:
        return _Names.INPUT if name in self._api.inputs else _Names.OUTPUT

    def get_tensor_location(self, name: str) -> _Names:
        return _Names.HOST if name in self._api.host else _Names.DEVICE

    def get_tensor_dtype(self, name: str) -> _Names:
        return _Names[self._api.inputs[name] if name in self._api.inputs else self._api.outputs[name][1]]

    def create_execution_context(self, strategy: _Names) -> "FakeContext":
        assert strategy is _Names.USER_MANAGED
        self._api.contexts.append(FakeContext(self._api))
        return self._api.contexts[-1]


class FakeContext:
    def __init__(self, api: FakeApi) -> None:
        self._api = api
        self.profile = -1
        self.memory = (0, 0)
        self.shapes: dict[str, Shape] = {}
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return True

    def set_device_memory(self, address: int, nbytes: int) -> None:
        self.memory = address, nbytes

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        assert name in self._api.inputs
        self.shapes[name] = tuple(shape)
        return "shape" not in self._api.fails

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address > 0
        assert address % 256 == 0
        self.addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self._api.inputs if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> Shape:
        return self._api.outputs[name][0](self.shapes)

    def execute_async_v3(self, stream: int) -> bool:
        assert set(self.addresses) == {*self._api.inputs, *self._api.outputs}
        if "execute" in self._api.fails or (
            "record" in self._api.fails and self._api.cuda.recording is not None
        ):
            return False
        self._api.cuda.ran("pass", (self.profile, dict(self.shapes), dict(self.addresses)))
        return True
