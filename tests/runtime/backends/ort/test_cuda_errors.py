"""Errors of ONNX Runtime on CUDA, as it says them, in words for whoever serves."""

import pytest

from rankport.runtime.backends.ort.cuda_errors import lacks_memory, reason_of

CALL = (
    "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /onnxruntime_src/cuda_call.cc:154 void "
    "onnxruntime::CudaCall(ERRTYPE, const char*) [with ERRTYPE = cudaError; bool THRW = true] CUDA failure 2: out of "
    "memory ; GPU=0 ; hostname=vm ; file=/onnxruntime_src/cuda_allocator.cc ; line=55 ; expr=cudaMalloc(&p, size); "
)
ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 64"
)
NO_CUDNN = (
    "Non-zero status code returned while running MultiHeadAttention node. Name:'node' Status Message: "
    "/onnxruntime_src/cuda_kernel.h:296 RequireCudnnHandle(cudnnHandle_t) [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : "
    "cuDNN is unavailable or disabled for CUDA Execution Provider: dlopen failed for libcudnn.so: no such file\n"
)
PRODUCT = "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0 ; hostname=vm ; file=matmul.cc ; line=1"


@pytest.mark.parametrize(
    ("told", "reason", "memory"),
    [
        (
            CALL,
            "the GPU has no memory left: lower --prefix-cache-bytes, or serve less on it "
            "(CUDA failure 2: out of memory)",
            True,
        ),
        (
            ARENA,
            "the GPU has no memory left: lower --prefix-cache-bytes, or serve less on it (Failed to allocate memory "
            "for requested buffer of size 64)",
            True,
        ),
        (
            NO_CUDNN,
            "it finds no cuDNN, which this model needs: pip install 'nvidia-cudnn-cu13>=9' (cuDNN is unavailable or "
            "disabled for CUDA Execution Provider: dlopen failed for libcudnn.so: no such file)",
            False,
        ),
        (PRODUCT, "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED", False),
        ("Invalid input name: x", "Invalid input name: x", False),
    ],
)
def test_an_error_is_told_by_its_reason_and_what_helps(told: str, reason: str, memory: bool) -> None:
    assert reason_of(RuntimeError(told)) == reason
    assert lacks_memory(RuntimeError(told)) == memory
