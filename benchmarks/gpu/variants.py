"""Forms of the exported graph side by side, on four layers of each model: which attention, which precision pays.

python -m benchmarks.gpu.variants --export .gpu/variants          # where checkpoints can be traced
python -m benchmarks.gpu.variants --variants .gpu/variants --work DIR --out FILE [--ceiling-tflops N]
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.bundles import export_model
from benchmarks.gpu.kernels import measure
from benchmarks.gpu.reports.figures import Figures
from benchmarks.gpu.reports.part import Part, engine_config
from benchmarks.gpu.workload.queries import LABEL_IDS
from benchmarks.gpu.workload.runs import run_of
from benchmarks.gpu.workload.shapes import FULL, RequestShape, Workload
from benchmarks.gpu.workload.skeletons import restore, write_skeleton
from benchmarks.gpu.workload.weights import RandomWeights, save_checkpoint
from rankport.exporters.kinds.ranker.proof.modes import MODES
from rankport.exporters.proof.compare import compare
from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.backends.contract import PrefixBackend
from rankport.runtime.kinds.table import open_bundle

_LAYERS, _VOCABULARY = 4, 8_192
FORMS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("slm", {"attention": "shared", "precision": "bf16"}),
    ("slm", {"attention": "fused", "precision": "bf16"}),
    ("slm", {"attention": "shared", "precision": "fp16"}),
    ("slm", {"attention": "fused", "precision": "fp16"}),
    ("slm", {"attention": "grouped", "precision": "fp16"}),  # its second form from onnxruntime 1.32 on
    ("mixlm", {"attention": "shared", "precision": "fp16"}),
    ("mixlm", {"attention": "shared", "precision": "bf16"}),
)


def main() -> None:
    """Exports or measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--export", type=Path, help="folder to leave the skeletons in")
    parser.add_argument("--variants", type=Path, default=Path(".gpu/variants"))
    parser.add_argument("--work", type=Path, default=Path("build/gpu-variants"))
    parser.add_argument("--out", type=Path, default=Path("build/gpu-variants.json"))
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--ceiling-tflops", type=float, default=0.0)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    for name, form in FORMS:
        if given.export:
            _export(name, form, given.work, given.export)
    if not given.export:
        _measure_all(given)


def _workload(name: str) -> Workload:
    full = next(one for one in FULL.workloads if one.model.name == name)
    model = dataclasses.replace(full.model, layers=_LAYERS, vocabulary=_VOCABULARY)
    short = RequestShape("short", 60, 250, 2, model.mix, 128, ())
    return Workload(model, (*full.requests[:1], *(() if model.mix else (short,))))


def _title(name: str, form: dict[str, Any]) -> str:
    return "-".join([name, *map(str, form.values())])


def _export(name: str, form: dict[str, Any], work: Path, to: Path) -> None:
    model = _workload(name).model
    checkpoint = save_checkpoint(work / f"{name}.checkpoint", model)
    title = _title(name, form)
    bundle = export_model(checkpoint, work / f"{title}.bundle", model, form | {"target": "onnx-cuda"})
    write_skeleton(bundle, RandomWeights(model.parameters()), to / title)


def _compare(part: Part, backend: PrefixBackend, request: RequestShape, prefix: str) -> None:
    """Against transformers in fp32 on the same device, two queries in one pass and each alone."""
    import torch

    from benchmarks.gpu.workload.torch_model import label_logits, random_model

    torch.backends.cuda.matmul.allow_tf32 = False
    exact = random_model(part.workload.model, part.device, torch.float32)
    runs = [run_of(part.workload.model, request, seed) for seed in range(2)]
    expected = [label_logits(exact, run.prefix, run.items, LABEL_IDS) for run in runs]
    del exact
    torch.cuda.empty_cache()
    for mode in ("prefix_reuse", "many_prefixes"):
        result = compare(mode, expected, MODES[mode](backend, runs))
        part.figures.add(f"{prefix}{request.name}, {mode}", result.model_dump(exclude={"mode"}))


def _measure_all(given: argparse.Namespace) -> None:
    figures = Figures(given.out)
    until = time.monotonic() + given.seconds
    for name, form in FORMS:
        workload, title = _workload(name), _title(name, form)
        if time.monotonic() > until:
            print(f"skipped for want of time: {title}", flush=True)
            continue
        print(f"\n-- {title}", flush=True)
        bundle = given.work / f"{title}.restored"
        part = Part(
            device=given.device,
            scale=FULL,
            workload=workload,
            requests=workload.requests,
            bundle=bundle,
            work=given.work,
            figures=figures,
            until=until,
            ceiling_tflops=given.ceiling_tflops,
            engine=engine_config(given.device, []),
        )
        try:
            if not bundle.exists():
                restore(given.variants / title, bundle)
            backend = load_prefix_backend(open_bundle(bundle), part.engine)
            for request in workload.requests:
                _compare(part, backend, request, f"{title}: ")
            for request in workload.requests:
                measure(part, backend, request, prefix=f"{title}: ")
            backend.close()
        except Exception as error:  # told; the other forms are still measured
            figures.add(title, f"{type(error).__name__}: {error}"[:600])


if __name__ == "__main__":
    main()
