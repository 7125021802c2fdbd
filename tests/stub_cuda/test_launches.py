"""Launches that CUDA refuses are faults of the stub too: an operator given a tensor without numbers may ask for one."""

import ctypes

import pytest

from benchmarks.gpu.without_gpu import stub

pytestmark = pytest.mark.stub_cuda

INVALID_CONFIGURATION = 9


class Dim3(ctypes.Structure):
    """Blocks of a launch, or threads of a block."""

    _fields_ = [("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint)]  # as ctypes reads it


@pytest.mark.parametrize(
    ("grid", "block", "refused"),
    [
        ((1, 1, 1), (256, 1, 1), False),
        ((2**31 - 1, 65535, 65535), (32, 32, 1), False),
        ((0, 1, 1), (256, 1, 1), True),
        ((4, 0, 1), (256, 1, 1), True),
        ((1, 65536, 1), (256, 1, 1), True),
        ((1, 1, 1), (1025, 1, 1), True),
        ((1, 1, 1), (64, 32, 1), True),
    ],
)
def test_a_launch_over_what_cuda_does_not_take_is_refused(
    grid: tuple[int, int, int], block: tuple[int, int, int], refused: bool
) -> None:
    library, kernel = ctypes.CDLL("libcudart.so.13"), ctypes.c_void_p()
    library.cudaLibraryGetKernel(ctypes.byref(kernel), None, b"some_kernel")
    library.cudaLaunchKernel.argtypes = [
        ctypes.c_void_p,
        Dim3,
        Dim3,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
    ]
    error = library.cudaLaunchKernel(kernel, Dim3(*grid), Dim3(*block), None, 0, None)
    library.cudaGetLastError()
    assert error == (INVALID_CONFIGURATION if refused else 0)
    said = ("launch over blocks or threads that CUDA does not take, of some_kernel",)
    assert stub.take_faults() == (said if refused else ())
