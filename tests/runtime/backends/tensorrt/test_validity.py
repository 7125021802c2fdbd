"""What TensorRT-RTX says of a plan before it is loaded: a GPU that it does not list is a refusal that can be lifted."""

import enum
from types import SimpleNamespace
from typing import Any

import pytest

from rankport.protos.errors import BackendError, UnsupportedGpu
from rankport.runtime.backends.tensorrt.module import TensorRt
from rankport.runtime.backends.tensorrt.validity import is_on_listed_gpu


class _Validity(enum.Enum):
    VALID = 0
    INVALID = 2


class _Diagnostics(enum.IntFlag):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2


MODULE = TensorRt(
    "tensorrt_rtx",
    "1.4.0.76",
    SimpleNamespace(EngineValidity=_Validity, EngineInvalidityDiagnostics=_Diagnostics),
)


def listed(validity: _Validity, diagnostics: int, *, allow: bool = False) -> bool:
    runtime = SimpleNamespace(get_engine_validity=lambda plan: (validity, diagnostics))
    log: Any = SimpleNamespace(errors=["in its own words"])
    return is_on_listed_gpu(MODULE, runtime, memoryview(b"plan"), log, allow_unsupported=allow)


def test_a_valid_plan_is_on_a_listed_gpu() -> None:
    assert listed(_Validity.VALID, 0)
    assert listed(_Validity.VALID, 0, allow=True)


def test_a_module_that_tells_nothing_is_believed() -> None:
    assert is_on_listed_gpu(MODULE, SimpleNamespace(), memoryview(b""), None, allow_unsupported=False)


def test_a_gpu_that_is_not_listed_is_refused_unless_it_may_be_tried() -> None:
    with pytest.raises(
        UnsupportedGpu, match=r"UNSUPPORTED_CC: tensorrt_rtx 1\.4\.0\.76 .*--allow-unsupported-gpu"
    ):
        listed(_Validity.INVALID, 2)
    assert not listed(_Validity.INVALID, 2, allow=True)


@pytest.mark.parametrize(
    ("diagnostics", "words"),
    [(1, "VERSION_MISMATCH"), (3, "VERSION_MISMATCH, UNSUPPORTED_CC"), (0, "in its own words")],
)
def test_any_other_reason_is_a_refusal_in_any_case(diagnostics: int, words: str) -> None:
    for allow in (False, True):
        with pytest.raises(BackendError, match=words) as caught:
            listed(_Validity.INVALID, diagnostics, allow=allow)
        assert not isinstance(caught.value, UnsupportedGpu)
