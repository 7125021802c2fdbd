"""Plans on a GPU that TensorRT does not list: answered by only if ONNX Runtime on the CPU has the same numbers."""

from collections.abc import Callable
from contextlib import closing
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import PrefixBackend, PrefixBatch
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend, OnnxRuntimeTextBackend
from rankport.runtime.backends.ort.half_floats import HalfFloatCast
from rankport.runtime.backends.tensorrt import backends as tensorrt_backends
from rankport.runtime.backends.trial import unlisted
from rankport.runtime.backends.trial.comparison import Difference, difference
from rankport.runtime.backends.trial.loading import load_prefix_plans, load_text_plans
from rankport.runtime.backends.trial.sample import open_sample
from rankport.runtime.backends.trial.unlisted import Unlisted
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRuns

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class ChangedRanker(OnnxRuntimePrefixBackend):
    """The CPU's backend with its logits changed, from the pass of a number on."""

    def __init__(self, bundle: Bundle, change: Change, first: int = 0) -> None:
        super().__init__(bundle)
        self._change, self._left = change, first

    def score(self, batch: PrefixBatch) -> NDArray[np.float32]:
        logits = super().score(batch)
        self._left -= 1
        return logits if self._left >= 0 else self._change(logits)


@pytest.fixture(scope="module")
def sample() -> Bundle:
    return open_sample().for_target("onnx-cpu")


@pytest.mark.parametrize(
    ("change", "first"),
    [(np.zeros_like, 0), (np.zeros_like, 3), (lambda logits: logits * 1.05, 0), (lambda x: x * np.nan, 0)],
    ids=["silent zeros", "zeros once recorded", "five in a hundred", "no numbers"],
)
def test_a_ranker_with_other_numbers_is_refused_by_name(change: Change, first: int, sample: Bundle) -> None:
    with (
        closing(ChangedRanker(sample, change, first)) as backend,
        pytest.raises(BackendError, match="'self-test': GPU 2 is not listed by TensorRT, and its numbers"),
    ):
        Unlisted(sample, sample, 2).check_prefix_backend(backend)


def test_a_ranker_with_the_numbers_of_tf32_is_taken(sample: Bundle) -> None:
    with closing(ChangedRanker(sample, lambda logits: logits + np.float32(2e-3))) as backend:
        Unlisted(sample, sample, 0).check_prefix_backend(backend)


def test_texts_are_compared_too(encoder_bundle: Bundle) -> None:
    class Zeros(OnnxRuntimeTextBackend):
        def compute(self, texts: TokenRuns) -> NDArray[np.float16]:
            return np.zeros_like(super().compute(texts))

    check = Unlisted(encoder_bundle, encoder_bundle, 0).check_text_backend("encode")
    with closing(OnnxRuntimeTextBackend(encoder_bundle, "encode")) as backend:
        check(backend)
    with closing(Zeros(encoder_bundle, "encode")) as backend, pytest.raises(BackendError, match="wrong"):
        check(backend)


@pytest.mark.parametrize(("largest", "right"), [(1e-4, True), (0.1, False), (float("nan"), False)])
def test_where_a_cpu_has_no_graphs_the_sample_is_built_and_compared(
    largest: float, right: bool, sample: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def answer(module: str, **how: object) -> tuple[Difference, float]:
        asked.append((module, how))
        return Difference(largest, 1.0), 2e-4

    monkeypatch.setattr(unlisted, "tensorrt_difference", answer)
    checks = Unlisted(sample, None, 1)
    for check in (checks.check_prefix_backend, checks.check_text_backend("encode")):
        if right:
            check(cast(PrefixBackend, None))  # type: ignore[arg-type]
        else:
            with pytest.raises(BackendError, match="a small ranker is wrong there"):
                check(cast(PrefixBackend, None))  # type: ignore[arg-type]
    assert asked == [("tensorrt_rtx", {"gpu": 1, "allow_unsupported_gpu": True})] * 2


def test_only_a_config_that_allows_it_has_plans_tried(
    sample: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[dict[str, object]] = []
    for name in ("tensorrt_prefix_backend", "tensorrt_text_backend"):
        monkeypatch.setattr(tensorrt_backends, name, lambda *_, **how: loads.append(how))
    for allowed in (False, True):
        config = EngineConfig(device="tensorrt", allow_unsupported_gpu=allowed, prefix_cache_bytes=2**20)
        load_prefix_plans(sample, config, 3, lambda: sample)
        load_text_plans(sample, "encode", config, 3, lambda: None)
    assert all(isinstance(how.pop("cast"), HalfFloatCast) for how in loads[::2])
    kv = {"kv_bytes": 5 * 2**18}
    assert loads[:2] == [{"device": 3, **kv}, {"device": 3}]
    (on_unlisted_prefix, on_unlisted_text) = (how.pop("on_unlisted_gpu") for how in loads[2:])
    assert loads[2:] == loads[:2]
    assert callable(on_unlisted_prefix)
    assert callable(on_unlisted_text)


def test_an_answer_that_is_no_number_is_infinitely_far() -> None:
    right = np.ones((2, 2), np.float32)
    assert difference(right, right) == Difference(0.0, 1.0)
    assert difference(right * np.nan, right).largest == float("inf")
    assert difference(right * 0, right).relative == 1.0
    assert difference(right, right * 0).relative == 1.0
