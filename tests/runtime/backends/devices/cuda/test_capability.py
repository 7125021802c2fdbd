"""A GPU that lacks what a graph is made of is refused by name, with the way out."""

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.backends.devices.cuda.capability import require_fp8
from rankport.runtime.backends.devices.cuda.gpus import Gpu
from rankport.runtime.bundle.manifest import GraphSpec

GPUS = tuple(
    Gpu(f"GPU of {name}", name, 2**34) for name in ("sm80", "sm86", "sm89", "sm90", "sm100", "sm120")
)
FP8 = GraphSpec(
    role="score", file="ranker.onnx", opset=21, target="onnx-cuda", fp8_products=True, inputs=[], outputs=[]
)


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_tensor_cores_of_ada_and_later_multiply_fp8(number: int) -> None:
    require_fp8(FP8, GPUS, number)


@pytest.mark.parametrize(("number", "had"), [(0, "8.0"), (1, "8.6")])
def test_an_older_gpu_is_refused(number: int, had: str) -> None:
    with pytest.raises(
        BundleError,
        match=rf"ranker\.onnx multiplies fp8 by fp8, which needs compute capability 8\.9 or later; GPU {number} "
        rf"\(GPU of sm8.\) has {had}: export it without --fp8-products",
    ):
        require_fp8(FP8, GPUS, number)


def test_a_gpu_that_nobody_tells_of_is_left_to_the_load() -> None:
    require_fp8(FP8, (), 0)
