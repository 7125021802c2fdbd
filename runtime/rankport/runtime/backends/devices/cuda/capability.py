"""Compute capability that a graph's operators need, against the GPU that is to run it."""

from collections.abc import Sequence

from rankport.protos.errors import BundleError
from rankport.runtime.backends.devices.cuda.gpus import Gpu
from rankport.runtime.bundle.manifest import GraphSpec

_FP8 = 89
"""First architecture whose tensor cores multiply fp8: Ada, before Hopper (90)."""


def require_fp8(graph: GraphSpec, gpus: Sequence[Gpu], number: int) -> None:
    """Raises BundleError if GPU `number` of those of this machine is known to lack the products of the graph."""
    if number >= len(gpus):
        return
    gpu = gpus[number]
    architecture = int(gpu.architecture.removeprefix("sm"))
    if architecture < _FP8:
        raise BundleError(
            f"{graph.file} multiplies fp8 by fp8, which needs compute capability {_words(_FP8)} or later; GPU {number} "
            f"({gpu.name}) has {_words(architecture)}: export it without --fp8-products"
        )


def _words(architecture: int) -> str:
    return f"{architecture // 10}.{architecture % 10}"
