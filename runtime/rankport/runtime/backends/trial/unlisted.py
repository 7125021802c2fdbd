"""Numbers of a plan on a GPU that TensorRT does not list, compared before anything is answered by it.

With those of the bundle's own graphs on a CPU, where that computes in their precision; else with those of the sample.
"""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import PrefixBackend, TextBackend
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend, OnnxRuntimeTextBackend
from rankport.runtime.backends.trial.comparison import (
    Difference,
    compare_prefix_backends,
    compare_text_backends,
)
from rankport.runtime.backends.trial.devices import tensorrt_difference
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Precision, Role

log = logging.getLogger(__name__)

MAX_RELATIVE: dict[Precision, float] = {"fp32": 0.01, "fp16": 0.05, "bf16": 0.1}
"""In parts of the answers' root mean square: TF32 and half precision stay well below, silent zeros do not."""


@dataclass(frozen=True, slots=True)
class Unlisted:
    """Comparison of what was loaded on a GPU that TensorRT does not list."""

    bundle: Bundle  # as it was loaded there
    on_cpu: Bundle | None  # its graphs that a CPU computes; None: it has none
    gpu: int

    def check_prefix_backend(self, backend: PrefixBackend) -> None:
        """Raises BackendError if its logits are not those of ONNX Runtime on the CPU."""
        if self.on_cpu is None:
            return self._check_sample()
        with closing(OnnxRuntimePrefixBackend(self.on_cpu)) as reference:
            return self._check(compare_prefix_backends(backend, reference, self.bundle.manifest))

    def check_text_backend(self, role: Role) -> Callable[[TextBackend], None]:
        """Makes the check of a graph of texts; it raises as `check_prefix_backend`."""

        def check(backend: TextBackend) -> None:
            if self.on_cpu is None:
                return self._check_sample()
            with closing(OnnxRuntimeTextBackend(self.on_cpu, role)) as reference:
                return self._check(compare_text_backends(backend, reference, self.bundle.manifest))

        return check

    def _check(self, found: Difference) -> None:
        manifest = self.bundle.manifest
        limit = MAX_RELATIVE[manifest.precision]
        if not found.relative <= limit:
            raise BackendError(
                f"bundle {manifest.name!r}: GPU {self.gpu} is not listed by TensorRT, and its numbers are wrong: off "
                f"by {found.largest:.2g} where answers of ONNX Runtime on the CPU have {found.scale:.2g} (limit "
                f"{limit:g} of that): serve it with --device cuda or cpu"
            )
        log.warning(
            "bundle %r on GPU %d, which TensorRT does not list: off by %.2g of ONNX Runtime's numbers (limit %g)",
            *(manifest.name, self.gpu, found.relative, limit),
        )

    def _check_sample(self) -> None:
        """Compares the sample in fp32, which is built for the GPU here."""
        found, limit = tensorrt_difference("tensorrt_rtx", gpu=self.gpu, allow_unsupported_gpu=True)
        if not found.largest <= limit:
            raise BackendError(
                f"bundle {self.bundle.manifest.name!r}: GPU {self.gpu} is not listed by TensorRT, and a small ranker "
                f"is wrong there: off by {found.largest:.2g}, limit {limit:g}: serve it with --device cuda"
            )
        log.warning(
            "GPU %d, which TensorRT does not list: a small ranker is off by %.2g of ONNX Runtime's numbers (limit %g); "
            "the bundle %r itself has no graphs that a CPU computes",
            *(self.gpu, found.largest, limit, self.bundle.manifest.name),
        )
