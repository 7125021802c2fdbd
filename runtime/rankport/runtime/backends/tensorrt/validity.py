"""Validity of a plan on the GPU at hand, which TensorRT-RTX tells before it loads one.

Version 1.4.0.76 calls plans invalid on SM90, whose architecture it does not list, and runs them there with the right
numbers; of others silent zeros are told. So such a plan is loaded only where numbers are compared first: see `trial`.
"""

import logging
from typing import Any

from rankport.protos.errors import BackendError, UnsupportedGpu
from rankport.runtime.backends.tensorrt.module import TensorRt, take_errors

log = logging.getLogger(__name__)

_UNLISTED = "UNSUPPORTED_CC"
TRY = "--allow-unsupported-gpu tries it, and compares its numbers with ONNX Runtime's first"


def is_on_listed_gpu(
    module: TensorRt, plan_runtime: Any, plan: memoryview, logger: Any, *, allow_unsupported: bool
) -> bool:
    """Says whether the plan is for a GPU that TensorRT lists; False only with `allow_unsupported`.

    Raises:
        UnsupportedGpu: it is not, and that is all that is wrong with it.
        BackendError: it cannot run here for another reason.
    """
    if not hasattr(plan_runtime, "get_engine_validity"):
        return True
    validity, diagnostics = plan_runtime.get_engine_validity(plan)
    if validity != module.api.EngineValidity.INVALID:
        return True
    known = module.api.EngineInvalidityDiagnostics.__members__.items()
    reasons = [name for name, bit in known if int(diagnostics) & int(bit)]
    if reasons != [_UNLISTED]:
        raise BackendError(
            f"the plan cannot run here: {', '.join(reasons) or take_errors(logger)}: "
            "rankport doctor shows what can, rankport build makes a plan for it"
        )
    if not allow_unsupported:
        raise UnsupportedGpu(
            f"the plan cannot run here: {_UNLISTED}: {module.name} {module.version} does not list this GPU: {TRY}"
        )
    log.warning(
        "%s %s does not list this GPU (%s); the plan is loaded all the same, and its numbers are compared",
        *(module.name, module.version, _UNLISTED),
    )
    return False
