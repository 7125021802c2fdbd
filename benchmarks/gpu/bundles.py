"""Exports the measured shapes and leaves their skeletons: here, where a checkpoint and minutes of tracing are at hand.

python -m benchmarks.gpu.bundles [--out build/gpu] [--precision bf16]     # graphs for CUDA
python -m benchmarks.gpu.bundles --tiny --out build/gpu-tiny              # toys in fp32 for a rehearsal on a CPU
"""

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.workload.queries import LABEL_IDS
from benchmarks.gpu.workload.shapes import ModelShape, scale_of
from benchmarks.gpu.workload.skeletons import write_skeleton
from benchmarks.gpu.workload.weights import RandomWeights, save_checkpoint
from rankport.exporters.export import run_export
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.kinds.ranker.kind import RANKER
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.steps import stage

_MIX_PROMPT = """
[[prefix]]
field = "query"
[[item]]
item = true
[[item]]
special = ["[EOS]"]
"""
_NO_ENCODER = "0" * 64  # the embeddings of the benchmark are random


def main() -> None:
    """One skeleton a model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--precision", choices=["bf16", "fp16", "fp32"], help="for CUDA; default: bf16")
    parser.add_argument("--model", nargs="*", help="names; default: all")
    given = parser.parse_args()
    fp32 = given.tiny and given.precision is None
    chosen = {} if fp32 else {"target": "onnx-cuda", "precision": given.precision or "bf16"}
    for workload in scale_of(given.tiny).workloads:
        model = workload.model
        if given.model and model.name not in given.model:
            continue
        checkpoint = save_checkpoint(given.out / f"{model.name}.checkpoint", model)
        bundle = export_model(checkpoint, given.out / f"{model.name}.bundle", model, chosen)
        skeleton = write_skeleton(
            bundle, RandomWeights(model.parameters()), given.out / f"{model.name}.skeleton"
        )
        size = sum(file.stat().st_size for file in skeleton.rglob("*") if file.is_file())
        print(f"{skeleton}: {size / 1e6:.1f} MB")


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
