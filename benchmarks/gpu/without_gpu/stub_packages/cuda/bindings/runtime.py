"""Calls of the CUDA runtime as cuda-python has them, answered by the stub: an error, then what the call returns."""

import ctypes
import enum
from dataclasses import dataclass, field
from typing import Any

_library = ctypes.CDLL("libcudart.so.13")

cudaStreamNonBlocking = 1
cudaHostAllocDefault = 0
cudaEventBlockingSync = 1
cudaEventDisableTiming = 2


class cudaError_t(enum.IntEnum):
    """Errors that rankport tells apart, and those that the stub has."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidDeviceFunction = 98
    cudaErrorInvalidDevice = 101
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalState = 401
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(enum.IntEnum):
    """Sides of a copy."""

    cudaMemcpyHostToHost = 0
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(enum.IntEnum):
    """Whose calls a recording restricts."""

    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


class cudaMemPoolAttr(enum.IntEnum):
    """Attributes of a pool."""

    cudaMemPoolAttrReleaseThreshold = 4


class _Pitched(ctypes.Structure):
    _fields_ = (
        ("ptr", ctypes.c_void_p),
        ("pitch", ctypes.c_size_t),
        ("xsize", ctypes.c_size_t),
        ("ysize", ctypes.c_size_t),
    )


class _Position(ctypes.Structure):
    _fields_ = (("x", ctypes.c_size_t), ("y", ctypes.c_size_t), ("z", ctypes.c_size_t))


class _Extent(ctypes.Structure):
    _fields_ = (("width", ctypes.c_size_t), ("height", ctypes.c_size_t), ("depth", ctypes.c_size_t))


class cudaMemcpy3DParms(ctypes.Structure):
    """Copy between two pitched memories."""

    _fields_ = (
        ("srcArray", ctypes.c_void_p),
        ("srcPos", _Position),
        ("srcPtr", _Pitched),
        ("dstArray", ctypes.c_void_p),
        ("dstPos", _Position),
        ("dstPtr", _Pitched),
        ("extent", _Extent),
        ("kind", ctypes.c_int),
    )


@dataclass
class _Properties:
    name: bytes = b"stub of an H200"
    major: int = 9
    minor: int = 0
    totalGlobalMem: int = 140 << 30
    multiProcessorCount: int = 132
    uuid: Any = field(default=None)


def make_cudaPitchedPtr(pointer: int, pitch: int, width: int, rows: int) -> _Pitched:
    """See CUDA."""
    return _Pitched(pointer, pitch, width, rows)


def make_cudaExtent(width: int, height: int, depth: int) -> _Extent:
    """See CUDA."""
    return _Extent(width, height, depth)


def cudaGetDeviceProperties(device: int) -> tuple[cudaError_t, Any]:
    """See CUDA."""
    return (cudaError_t.cudaErrorInvalidDevice, None) if device else (cudaError_t.cudaSuccess, _Properties())


def cudaGetErrorString(error: int) -> tuple[cudaError_t, bytes]:
    """See CUDA."""
    _library.cudaGetErrorString.restype = ctypes.c_char_p
    return cudaError_t.cudaSuccess, _library.cudaGetErrorString(int(error))


def cudaMemGetInfo() -> tuple[cudaError_t, int, int]:
    """See CUDA."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    return _called(_library.cudaMemGetInfo, ctypes.byref(free), ctypes.byref(total)), free.value, total.value


def cudaThreadExchangeStreamCaptureMode(
    mode: cudaStreamCaptureMode,
) -> tuple[cudaError_t, cudaStreamCaptureMode]:
    """See CUDA."""
    place = ctypes.c_int(mode)
    error = _called(_library.cudaThreadExchangeStreamCaptureMode, ctypes.byref(place))
    return error, cudaStreamCaptureMode(place.value)


def cudaMemcpy3DAsync(job: cudaMemcpy3DParms, stream: Any) -> tuple[cudaError_t]:
    """See CUDA."""
    return (_called(_library.cudaMemcpy3DAsync, ctypes.byref(job), stream),)


def cudaMemPoolSetAttribute(pool: Any, attribute: int, value: Any) -> tuple[cudaError_t]:
    """See CUDA."""
    return (_called(_library.cudaMemPoolSetAttribute, pool, attribute, ctypes.byref(value)),)


_HANDED = {
    "cudaDeviceGetDefaultMemPool": ctypes.c_void_p,
    "cudaDriverGetVersion": ctypes.c_int,
    "cudaEventCreate": ctypes.c_void_p,
    "cudaEventCreateWithFlags": ctypes.c_void_p,
    "cudaEventElapsedTime": ctypes.c_float,
    "cudaGetDeviceCount": ctypes.c_int,
    "cudaGraphInstantiate": ctypes.c_void_p,
    "cudaHostAlloc": ctypes.c_void_p,
    "cudaMalloc": ctypes.c_void_p,
    "cudaMallocAsync": ctypes.c_void_p,
    "cudaStreamCreateWithFlags": ctypes.c_void_p,
}
"""Calls that hand a value out by their first argument."""
_HANDED_LAST = {"cudaStreamEndCapture": ctypes.c_void_p}


def __getattr__(name: str) -> Any:
    if not name.startswith("cuda") or not hasattr(_library, name):
        raise AttributeError(name)
    function = getattr(_library, name)

    def call(*arguments: Any) -> tuple[Any, ...]:
        kind = _HANDED.get(name) or _HANDED_LAST.get(name)
        if kind is None:
            return (_called(function, *arguments),)
        value: Any = kind()
        place = ctypes.byref(value)
        error = _called(function, *((*arguments, place) if name in _HANDED_LAST else (place, *arguments)))
        return (error, None) if error else (error, value.value or 0)

    globals()[name] = call
    return call


def _called(function: Any, *arguments: Any) -> cudaError_t:
    return cudaError_t(function(*map(_argument, arguments)))


def _argument(value: Any) -> Any:
    return ctypes.c_size_t(int(value)) if isinstance(value, int) else value
