"""Operators of ONNX Runtime on CUDA alone, at the sizes of a pass: which of them a graph should be made of.

    python -m benchmarks.gpu.operators --work DIR --out FILE [--device cpu --tiny]

Attention of 100 items of 152 tokens on a prefix of 56 (text), and of 32 queries of 250 items of 2 tokens on 64 (mix),
16 heads over 8 of 128, and what stands around it, in single operators and in chains of them (`single`): kernel
milliseconds by torch's profiler, the bytes that inputs and outputs of the whole have, the share of the device's copy
rate at which these were moved, and the largest error against torch in fp32; beside them milliseconds by the clock,
which have what the host does between kernels. A rehearsal on a CPU takes fp32, a fraction of the tokens, and the clock
in place of the profiler.
"""

import itertools
import time
from collections import Counter
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import helper

from benchmarks.gpu.ceilings import copy_tb_per_s
from benchmarks.gpu.reports.part import arguments
from benchmarks.gpu.single.candidates import chains
from benchmarks.gpu.single.case import TYPES, Case, Sizes
from benchmarks.gpu.single.experts import expert_cases
from benchmarks.gpu.single.nodes import attention_cases, row_cases

_COPIED = {"cuda": 2**30, "cpu": 2**24}
_ROUNDS = 5
_TOY_SCALE = 100  # part of the tokens that a rehearsal takes
_KINDS = (("text", "mix", "rows", "chains"), ("experts",))
"""Order of what is measured: the parts of a layer, in all types, before what few models have."""


def run(case: Case, dtype: torch.dtype, sizes: Sizes, copy_rate: float) -> dict[str, Any]:
    """Milliseconds, gigabytes, share of `copy_rate` (TB/s) and error."""
    session, names = _session(case, dtype, sizes.device)
    binding = session.io_binding()
    for name in filter(None, names):
        if name in case.host:
            binding.bind_cpu_input(name, case.host[name])
        else:
            value = case.inputs[name]
            assert value is not None
            shape = list(value.shape)
            binding.bind_input(name, sizes.device, 0, TYPES[value.dtype], shape, value.data_ptr())
    for out in case.output_names:
        binding.bind_output(out, sizes.device)
    for _ in range(3):
        session.run_with_iobinding(binding)
    spent = (_profiled if sizes.device == "cuda" else _timed)(session, binding)
    wall_ms = sum(_timed(session, binding).values())
    moved = sum(value.nbytes for value in case.inputs.values() if value is not None)
    given = binding.get_outputs()
    moved += sum(int(np.prod(output.shape())) * dtype.itemsize for output in given)
    ms = sum(spent.values())
    found: dict[str, Any] = {
        "ms": ms,
        "wall_ms": wall_ms,
        "gb": moved / 1e9,
        "of_copy_rate": moved / 1e12 / (ms / 1e3) / copy_rate,
        "kernels": dict(spent.most_common(4)),
    }
    if case.expected is not None:
        actual = _read(given[0], dtype, sizes.device)
        found["max_error"] = float((actual[:, : case.expected.shape[1]] - case.expected).abs().max())
    return found


def _session(case: Case, dtype: torch.dtype, device: str) -> tuple[onnxruntime.InferenceSession, list[str]]:
    names = [name if value is not None or name in case.host else "" for name, value in case.inputs.items()]
    kinds = {n: TYPES[v.dtype] for n, v in case.inputs.items() if v is not None}
    kinds |= {name: {"int32": 6, "int64": 7}[array.dtype.name] for name, array in case.host.items()}
    shapes = {n: list(v.shape) for n, v in case.inputs.items() if v is not None} | {
        name: list(array.shape) for name, array in case.host.items()
    }
    while not names[-1]:
        names.pop()
    graph = helper.make_graph(
        case.made_nodes(names),
        "g",
        [helper.make_tensor_value_info(n, kinds[n], shapes[n]) for n in names if n],
        [helper.make_tensor_value_info(out, TYPES[dtype], None) for out in case.output_names],
        case.constants,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    # What is measured is what is written.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers: list[Any] = [("CUDAExecutionProvider", {"use_tf32": "0"})]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(),
        options,
        providers=providers if device == "cuda" else ["CPUExecutionProvider"],
    )
    return session, names


def _profiled(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding) -> Counter[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(_ROUNDS):
            session.run_with_iobinding(binding)
        torch.cuda.synchronize()
    spent: Counter[str] = Counter()
    for event in profile.events():
        if not event.name.startswith("Memcpy DtoH"):
            spent[event.name[:60]] += event.device_time_total / (_ROUNDS * 1e3)
    return spent


def _timed(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding) -> Counter[str]:
    begun = time.perf_counter()
    for _ in range(_ROUNDS):
        session.run_with_iobinding(binding)
    return Counter({"by the clock": (time.perf_counter() - begun) / _ROUNDS * 1e3})


def _read(value: onnxruntime.OrtValue, dtype: torch.dtype, device: str) -> torch.Tensor:
    if device == "cpu":
        return torch.from_numpy(value.numpy())
    count = int(np.prod(value.shape()))
    raw = torch.empty(count, dtype=dtype, device=device)
    cuda = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    cuda.cudaMemcpy(raw.data_ptr(), value.data_ptr(), count * dtype.itemsize, 3)
    return raw.reshape(value.shape()).float()


def main() -> None:
    """Every case in both half precisions as far as the time goes; one that cannot run says why."""
    part = arguments(__doc__)
    onnxruntime.set_default_logger_severity(4)
    figures, sizes = part.figures, Sizes(part.device, 1 if part.on_gpu else _TOY_SCALE)
    copy_rate = copy_tb_per_s(_COPIED[part.device], part.device)
    figures.add("copy_tb_per_s", copy_rate)
    types = (torch.float16, torch.bfloat16) if part.on_gpu else (torch.float32,)
    for kinds in _KINDS:
        for dtype, kind in itertools.product(types, kinds):
            made = {"rows": row_cases, "chains": chains, "experts": expert_cases}.get(kind)
            if not part.enough(1, f"{_words(dtype)} {kind}"):
                continue
            cases = attention_cases(dtype, kind, sizes) if made is None else made(dtype, sizes)
            for name, case in cases.items():
                title = f"{_words(dtype)} {name}"
                if not part.enough(1, title):
                    continue
                try:
                    figures.add(title, run(case, dtype, sizes, copy_rate))
                except Exception as error:  # told; the others are still measured
                    figures.add(title, f"{type(error).__name__}: {str(error)[:400]}")


def _words(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main()
