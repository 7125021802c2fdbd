"""The seam between a device backend and what runs its graphs: ONNX Runtime on CUDA, or TensorRT.

Owns the names of what lies on a device. Nothing here allocates or copies: that is the memory's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.bundle.manifest import DType

ITEM_BYTES: dict[DType, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int8": 1}


@lru_cache(maxsize=16)
def type_name(dtype: "np.dtype[np.generic]") -> DType:
    """Names a type as manifests do. Kept, as numpy makes its name anew each time."""
    return cast(DType, dtype.name)


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """A contiguous tensor somewhere in device memory; whoever made it keeps the memory alive."""

    pointer: int
    shape: tuple[int, ...]
    dtype: DType

    @property
    def nbytes(self) -> int:
        """Bytes covered."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


class DeviceGraph(Protocol):
    """One graph of a bundle, loaded on a device; everything it does is enqueued on the stream it was loaded with."""

    @property
    def input_names(self) -> frozenset[str]:
        """Inputs that the graph reads."""

    @property
    def host_names(self) -> frozenset[str]:
        """Inputs that it wants in host memory, because they decide shapes."""

    def run(
        self,
        inputs: Mapping[str, DeviceArray],
        host: Mapping[str, NDArray[np.int64]],
        outputs: Mapping[str, DeviceArray],
        *,
        fixed: int | None = None,
    ) -> None:
        """Enqueues one pass. `outputs` are written as far as they are asked for.

        Two runs of one `fixed` number have the same addresses, shapes and host values: their kernels may be recorded
        once and replayed. None: never again.
        Raises BackendError.
        """

    def close(self) -> None:
        """Frees the graph."""
