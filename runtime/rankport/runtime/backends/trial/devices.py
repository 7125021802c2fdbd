"""Runs of the sample ranker on each device: how far its logits are from ONNX Runtime's on the CPU, and may be.

Raises what the device's own loader raises; nothing is caught here.
"""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBackend
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend
from rankport.runtime.backends.tensorrt.backends import tensorrt_prefix_backend
from rankport.runtime.backends.tensorrt.build import BuildTarget, build_plans
from rankport.runtime.backends.tensorrt.module import ModuleName, load_tensorrt
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.backends.trial.comparison import Difference, answers_of, difference
from rankport.runtime.backends.trial.sample import copy_sample, open_sample, sample_tokens, torch_logits
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import CUDA_DEFAULTS
from rankport.runtime.tokens import TokenRun, TokenRuns

MAX_FP32 = 2e-4
"""Largest difference of a logit in fp32; the sample's logits go up to 2.8."""

MAX_TF32 = 5e-3
"""The same where inputs of products are rounded to TF32's ten bits: emulated, the sample is off by 2.2e-3."""

_LIMITS = ProfileLimits(max_batch_tokens=64, max_prefixes=1)
_CACHE_BYTES = 2**20


def cpu_difference() -> tuple[Difference, float]:
    """Compares ONNX Runtime on the CPU with torch's logits, which ship with the sample. Returns the limit too."""
    with closing(OnnxRuntimePrefixBackend(open_sample().for_target("onnx-cpu"))) as backend:
        return difference(_behind_prefix(backend), torch_logits()), MAX_FP32


def cuda_difference(gpu: int = 0) -> tuple[Difference, float]:
    """Compares ONNX Runtime on a GPU; raises as `cuda_prefix_backend`."""
    from rankport.runtime.backends.ort.cuda import cuda_prefix_backend

    config = replace(CUDA_DEFAULTS, prefix_cache_bytes=_CACHE_BYTES)
    sample = open_sample().for_target("onnx-cuda")
    with closing(cuda_prefix_backend(sample, config, device=gpu)) as backend:
        return _from_cpu(backend), MAX_FP32


def build_sample(target: BuildTarget, folder: Path, *, allow_unsupported_gpu: bool = False) -> Bundle:
    """Builds the sample's plans in a copy of it at `folder`; raises as `build_plans`."""
    sample = copy_sample(folder).for_target("onnx-cpu")
    build_plans(sample, target, limits=_LIMITS, allow_unsupported_gpu=allow_unsupported_gpu)
    return sample


def run_sample(
    sample: Bundle, module: ModuleName, *, gpu: int = 0, allow_unsupported_gpu: bool = False
) -> tuple[Difference, float]:
    """Compares the plans of `build_sample`; raises as `tensorrt_prefix_backend`."""
    exact = load_tensorrt(module).can.fp32_without_tf32
    compared = (lambda _: None) if allow_unsupported_gpu else None  # here, in a moment
    with closing(tensorrt_prefix_backend(sample, device=gpu, on_unlisted_gpu=compared)) as backend:
        return _from_cpu(backend), MAX_FP32 if exact else MAX_TF32


def tensorrt_difference(
    module: ModuleName, *, gpu: int, allow_unsupported_gpu: bool
) -> tuple[Difference, float]:
    """Builds the sample for the GPU at hand and compares it; raises as both do."""
    target = BuildTarget(module, (None,))
    with TemporaryDirectory() as folder:
        sample = build_sample(target, Path(folder) / "sample", allow_unsupported_gpu=allow_unsupported_gpu)
        return run_sample(sample, module, gpu=gpu, allow_unsupported_gpu=allow_unsupported_gpu)


def _from_cpu(backend: PrefixBackend) -> Difference:
    with closing(OnnxRuntimePrefixBackend(open_sample().for_target("onnx-cpu"))) as reference:
        return difference(*(np.concatenate(_answers(each)) for each in (backend, reference)))


def _behind_prefix(backend: PrefixBackend) -> NDArray[np.float32]:
    return _answers(backend)[0]


def _answers(backend: PrefixBackend) -> list[NDArray[np.float32]]:
    prefix, items = sample_tokens()
    return answers_of(
        backend, TokenRun(np.array(prefix)), TokenRuns.of([TokenRun(np.array(item)) for item in items])
    )
