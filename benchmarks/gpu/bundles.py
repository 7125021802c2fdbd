"""Exports the measured shapes and leaves their skeletons: here, where a checkpoint and minutes of tracing are at hand.

python -m benchmarks.gpu.bundles [--out build/gpu] [--form fp16 bf16 plans]     # graphs for CUDA and for TensorRT
python -m benchmarks.gpu.bundles --tiny --out build/gpu-tiny              # toys in fp32 for a rehearsal on a CPU
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import FORMS, PLANS
from benchmarks.gpu.workload.queries import LABEL_IDS
from benchmarks.gpu.workload.shapes import ModelShape, scale_of
from benchmarks.gpu.workload.skeletons import write_skeleton
from benchmarks.gpu.workload.weights import RandomWeights, save_checkpoint
from rankport.exporters.export import run_export
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.kinds.ranker.kind import RANKER
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.steps.stage import stage

_MIX_PROMPT = """
[[prefix]]
field = "query"
[[item]]
item = true
[[item]]
special = ["[EOS]"]
"""
_FORMS = (*FORMS, PLANS)
_NO_ENCODER = "0" * 64  # the embeddings of the benchmark are random


def main() -> None:
    """One skeleton a model and form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--form", nargs="*", choices=_FORMS, default=_FORMS, help="default: all")
    parser.add_argument("--model", nargs="*", help="names; default: all")
    given = parser.parse_args()
    names = [workload.model.name for workload in scale_of(given.tiny).workloads]
    if unknown := set(given.model or ()) - set(names):
        parser.error(f"no model is called {', '.join(sorted(unknown))}: there are {', '.join(names)}")
    for workload in scale_of(given.tiny).workloads:
        model = workload.model
        if given.model and model.name not in given.model:
            continue
        checkpoint = save_checkpoint(given.out / f"{model.name}.checkpoint", model)
        made: dict[str, Path] = {}  # skeletons by the options of their export
        for form in given.form:
            options = options_of(form, given.tiny)
            name = f"{model.name}.{form}"
            to = given.out / f"{name}.skeleton"
            if (twin := made.setdefault(json.dumps(options), to)) == to:
                bundle = export_model(checkpoint, given.out / f"{name}.bundle", model, options)
                write_skeleton(bundle, RandomWeights(model.parameters()), to)
            else:
                shutil.copytree(twin, to, dirs_exist_ok=True)
            size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
            print(f"{to}: {size / 1e6:.1f} MB", flush=True)


def options_of(form: str, tiny: bool) -> dict[str, Any]:
    """Target and precision; toys are in fp32, which a CPU computes in, by whatever form."""
    if form == PLANS:
        return {"target": "tensorrt", "precision": "fp32" if tiny else "fp16"}
    return {} if tiny else {"target": "onnx-cuda", "precision": form}


def export_model(checkpoint: Path, out: Path, model: ModelShape, options: dict[str, Any]) -> Path:
    """`rankport export` of one shape."""
    begun = time.monotonic()
    items: dict[str, Any] = {}
    if model.mix:
        prompt = checkpoint / "prompt.toml"
        prompt.write_text(_MIX_PROMPT)
        items = {"item_encoder": _NO_ENCODER, "embedding_tokens": 1, "prompt": prompt}

    def on_progress(step: str) -> None:
        print(f"[{time.monotonic() - begun:5.0f} s] {out.name}: {step}", flush=True)

    chosen = RankerOptions(
        name=model.name,
        label_ids=LABEL_IDS,
        max_prefix_tokens=model.max_prefix_tokens,
        max_item_tokens=model.max_item_tokens,
        overwrite=True,
        **items,
        **options,
    )
    if chosen.chosen_target == "onnx-cpu":
        return run_export(checkpoint, out, RANKER, chosen, on_progress).path
    with BundleStaging(out, overwrite=True) as staging:
        draft, _ = stage(staging, RANKER, checkpoint, chosen, [], on_progress)
        staging.finalize(draft)
        return staging.publish().path


if __name__ == "__main__":
    main()
