"""On a GPU: plans built here answer as ONNX Runtime on the CPU does, in every shape, enqueued and replayed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import BackendError, BundleError, InvalidRequest
from rankport.runtime.backends.contract import PrefixBackend, PrefixBatch
from rankport.runtime.backends.devices.cuda.gpus import list_gpus
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend, OnnxRuntimeTextBackend
from rankport.runtime.backends.tensorrt.backends import tensorrt_prefix_backend, tensorrt_text_backend
from rankport.runtime.backends.tensorrt.build import BuildTarget, build_plans
from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.module import load_tensorrt
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.backends.trial.devices import MAX_FP32, MAX_TF32
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.tokens import EMBEDDED, TokenRun, TokenRuns

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not list_gpus(), reason="needs an NVIDIA GPU")]

VOCABULARY = 36


@pytest.fixture(scope="module")
def bundle(mix_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A ranker of embedding tokens with plans for the GPU at hand."""
    return _with_plans(mix_bundle, tmp_path_factory.mktemp("gpu"), BuildOptions())


def _with_plans(bundle: Bundle, folder: Path, options: BuildOptions) -> Bundle:
    """A copy of the bundle, with plans; skips the test where there is no module, or it makes none."""
    copied = open_bundle(shutil.copytree(bundle.path, folder / "copy"))
    limits = ProfileLimits(256, max_prefixes=4)
    try:
        target = "tensorrt" if load_tensorrt().name == "tensorrt" else "tensorrt-rtx:current"
        build_plans(
            copied, BuildTarget.parse(target), options=options, limits=limits, allow_unsupported_gpu=True
        )
    except (BackendError, BundleError, InvalidRequest) as error:
        pytest.skip(f"no plan for {list_gpus()[0].architecture}: {error}")
    return copied


@pytest.fixture
def backends(bundle: Bundle) -> Iterator[tuple[PrefixBackend, PrefixBackend]]:
    """TensorRT's and ONNX Runtime's."""
    pair = loaded(bundle), OnnxRuntimePrefixBackend(bundle)
    yield pair
    for backend in pair:
        backend.close()


def loaded(bundle: Bundle) -> PrefixBackend:
    """Loads the plans also on a GPU that TensorRT does not list: the test compares numbers itself."""
    return tensorrt_prefix_backend(bundle, on_unlisted_gpu=lambda _: None)


def limit() -> float:
    """Most that a logit may be off by: fp32's, or TF32's where the version keeps that on."""
    return MAX_FP32 if load_tensorrt().can.fp32_without_tf32 else MAX_TF32


def _runs(count: int, longest: int, hidden: int, seed: int) -> tuple[TokenRun, ...]:
    rng = np.random.default_rng(seed)
    runs = []
    for index in range(count):
        ids = rng.integers(3, VOCABULARY, rng.integers(1, longest + 1))
        embeddings = None
        if index % 3 == 2:
            ids[-1] = EMBEDDED
            embeddings = rng.normal(size=(1, hidden)).astype(np.float32)
        runs.append(TokenRun(ids, embeddings))
    return tuple(runs)


@pytest.mark.parametrize(
    ("prefixes", "items", "longest"), [(1, 1, 1), (1, 5, 3), (1, 40, 2), (1, 4, 40), (3, 6, 4), (6, 3, 12)]
)
def test_plans_answer_as_onnxruntime(
    prefixes: int, items: int, longest: int, bundle: Bundle, backends: tuple[PrefixBackend, PrefixBackend]
) -> None:
    hidden = bundle.manifest.shape.hidden_size
    starts = PrefixBatch.of(
        tuple(() for _ in range(prefixes)), _runs(prefixes, 20, hidden, seed=1), np.arange(prefixes)
    )
    runs = _runs(prefixes * items, longest, hidden, seed=2)
    owner = np.repeat(np.arange(prefixes), items)
    answers = []
    for backend in backends:
        kvs = tuple((kv,) for kv in backend.prefill(starts))
        # The first enqueues, the second is recorded, the third replays.
        answers.append([backend.score(PrefixBatch.of(kvs, runs, owner)) for _ in range(4)])
    tensorrt, onnxruntime = answers
    for logits in tensorrt:
        np.testing.assert_allclose(logits, onnxruntime[0], atol=limit())


def test_a_pass_without_a_prefix_is_answered(
    backends: tuple[PrefixBackend, PrefixBackend], bundle: Bundle
) -> None:
    batch = PrefixBatch.of(
        ((),), _runs(4, 5, bundle.manifest.shape.hidden_size, seed=3), np.zeros(4, np.int64)
    )
    tensorrt, onnxruntime = (backend.score(batch) for backend in backends)
    np.testing.assert_allclose(tensorrt, onnxruntime, atol=limit())


@pytest.mark.parametrize("option", ["strip_weights", "hardware_compatible"])
def test_plans_of_every_option_answer_alike(option: str, mix_bundle: Bundle, tmp_path: Path) -> None:
    bundle = _with_plans(mix_bundle, tmp_path, BuildOptions(**{option: True}))
    runs = _runs(4, 5, bundle.manifest.shape.hidden_size, seed=4)
    batch = PrefixBatch.of(((),), runs, np.zeros(4, np.int64))
    answers = []
    for backend in (loaded(bundle), OnnxRuntimePrefixBackend(bundle)):
        answers.append(backend.score(batch))
        backend.close()
    np.testing.assert_allclose(*answers, atol=limit())


def test_the_plan_of_an_encoder_gives_the_tokens_of_onnxruntime(
    encoder_bundle: Bundle, tmp_path: Path
) -> None:
    bundle = _with_plans(encoder_bundle, tmp_path, BuildOptions())
    limits = bundle.manifest.limits
    texts = TokenRuns.of(
        [TokenRun(np.arange(3, 3 + 1 + count % limits.max_item_tokens) % VOCABULARY) for count in range(40)]
    )
    answers = []
    on_gpu = tensorrt_text_backend(bundle, "encode", on_unlisted_gpu=lambda _: None)
    for backend in (on_gpu, OnnxRuntimeTextBackend(bundle, "encode")):
        answers.append(backend.compute(texts))
        backend.close()
    np.testing.assert_allclose(*answers, atol=max(2e-3, limit()))
