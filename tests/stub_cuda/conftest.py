"""Tests over a CUDA without a GPU: `make test-stub-cuda`. What they prove is what is loaded and done, and no number."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.gpu.without_gpu import stub
from rankport.runtime.backends.ort import cuda
from rankport.runtime.bundle.bundle import Bundle
from support.gpu.device_memories import Memories
from support.gpu.kinds_on_cuda import FORMS, KINDS, BundleOf
from support.sharing.once import made_once, run_folder


@pytest.fixture(scope="session", autouse=True)
def stub_cuda() -> None:
    """Skips where CUDA is not the stub."""
    if not stub.is_loaded():
        pytest.skip("CUDA is not the stub here: make test-stub-cuda")


@pytest.fixture(autouse=True)
def nothing_is_refused_or_left(stub_cuda: None, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Holds every test to leave the device as it was, and to ask nothing that CUDA would refuse."""
    before = stub.alive()
    stub.take_launches(), stub.take_faults()
    yield
    caplog.clear()  # its records hold what was raised, and so what it passed through
    gc.collect()
    assert stub.take_faults() == ()
    assert stub.alive() == before


@pytest.fixture
def memories(monkeypatch: pytest.MonkeyPatch) -> Memories:
    """Keeps the memories of devices that are made."""
    kept = Memories()
    monkeypatch.setattr(cuda, "CudaMemory", kept.make)
    return kept


@pytest.fixture(scope="session")
def ranker_on_cuda(ranker_checkpoint: Path, prompt_file: Path, exported: Callable[..., Bundle]) -> Bundle:
    """Bundle of a ranker of texts for CUDA, in fp16."""
    limits = {"max_prefix_tokens": 64, "max_item_tokens": 48}
    options = {"kind": "ranker", "prompt": prompt_file, "target": "onnx-cuda", "precision": "fp16"}
    return exported(ranker_checkpoint, name="texts", **options, **limits)


@pytest.fixture(scope="session")
def mix_on_cuda(
    ranker_checkpoint: Path, encoder_on_cuda: Bundle, prompt_file: Path, exported: Callable[..., Bundle]
) -> Bundle:
    """Bundle of a ranker of the tokens of `encoder_on_cuda`, for CUDA, in fp16."""
    limits = {"max_prefix_tokens": 64, "max_item_tokens": 48, "item_encoder": encoder_on_cuda.path}
    options = {"kind": "ranker", "prompt": prompt_file, "target": "onnx-cuda", "precision": "fp16"}
    return exported(ranker_checkpoint, name="mix", **options, **limits)


@pytest.fixture(scope="session")
def writer_on_cuda(generator_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """Bundle of a generator for CUDA, in fp16."""
    limits = {"max_prefix_tokens": 64, "max_item_tokens": 32}
    options = {"kind": "generator", "target": "onnx-cuda", "precision": "fp16"}
    return exported(generator_checkpoint, name="writer", **options, **limits)


@pytest.fixture(scope="session")
def encoder_on_cuda(encoder_checkpoint: Path, exported: Callable[..., Bundle]) -> Bundle:
    """Bundle of an item encoder for CUDA, in fp16."""
    options = {"kind": "item-encoder", "target": "onnx-cuda", "precision": "fp16"}
    return exported(encoder_checkpoint, name="encoder", pooling="mean", max_item_tokens=32, **options)


@pytest.fixture(scope="session")
def bundle_of(exported: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> BundleOf:
    """Gives the bundle of a kind in a form."""

    def made(kind: str, form: str) -> Bundle:
        folder = run_folder(tmp_path_factory, "checkpoints")
        checkpoint = made_once(folder / kind, KINDS[kind].checkpoint)
        return exported(checkpoint, name="stub", target="onnx-cuda", **KINDS[kind].options, **FORMS[form])

    return made
