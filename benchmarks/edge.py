"""A 0.6 B ranker on a small machine: export to low bits, size, memory, cold start and first score.

The checkpoint has Qwen3-0.6B's shape and random weights: sizes and times are those of the real one, its ranking means
nothing. Every step is the command that a user runs, in a process of its own. Writes build/edge/edge.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.machine import describe_machine
from benchmarks.parts.watched import MB, Usage, run_watched

OUT = Path("build/edge")
CONFIG = Qwen3Config(
    vocab_size=151_936,
    hidden_size=1024,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    intermediate_size=3072,
    tie_word_embeddings=True,
    architectures=["Qwen3ForCausalLM"],
)
_FIRST_SCORE = """
import json, sys, time
begun = time.perf_counter()
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
ranker = Ranker.load(sys.argv[1], config=EngineConfig(prepacking=sys.argv[2]))
loaded = time.perf_counter()
prefix = [(7 * i) % 151_000 for i in range(60)]
items = [[(31 * i + j) % 151_000 for j in range(40)] for i in range(10)]
ranker.score(prefix, items)
first = time.perf_counter()
ranker.score(prefix[:-1] + [1], items)
second = time.perf_counter()
print(json.dumps({"load_s": loaded - begun, "first_score_s": first - loaded, "next_score_s": second - first}))
"""


def main() -> None:
    """Exports, then measures each bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quantize", nargs="*", default=["int4", "int8"], help="recipes to export")
    parser.add_argument("--reuse", action="store_true", help="measure the bundles that are there")
    arguments = parser.parse_args()
    console = Console()
    checkpoint = OUT / "checkpoint"
    # In a process of its own: what making the weights takes is no part of the measurement.
    subprocess.run(
        [sys.executable, "-c", "from benchmarks.edge import *; save_checkpoint(OUT / 'checkpoint')"],
        check=True,
    )
    report: dict[str, object] = {"parameters": 596_049_920, "machine": describe_machine()}
    report["runtime_install_mb"] = install_mb()
    console.print(
        f"pip install 'rankport\\[runtime]': {report['runtime_install_mb']:.0f} MB in site-packages"
    )
    for recipe in arguments.quantize:
        bundle = OUT / f"{recipe}.bundle"
        measured: dict[str, object] = {}
        if not arguments.reuse or not bundle.exists():
            measured["export"] = export(checkpoint, bundle, recipe).as_json()
        measured |= measure(bundle)
        report[recipe] = measured
        show(console, recipe, measured)
    (OUT / "edge.json").write_text(json.dumps(report, indent=2) + "\n")
    console.print(f"figures: {OUT / 'edge.json'}")


def save_checkpoint(folder: Path) -> Path:
    """Random weights in bfloat16, 1.2 GB."""
    if (folder / "model.safetensors").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    CONFIG.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Qwen3ForCausalLM(CONFIG).named_parameters()}
    generator = torch.Generator().manual_seed(0)

    def weight(name: str, shape: torch.Size) -> torch.Tensor:
        if len(shape) == 1:
            return torch.ones(shape, dtype=torch.bfloat16)
        return (torch.randn(shape, generator=generator) * 0.03).to(torch.bfloat16)

    tensors = {name: weight(name, shape) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def export(checkpoint: Path, bundle: Path, recipe: str) -> Usage:
    """`rankport export`, watched."""
    return run_watched(
        [
            *(sys.executable, "-m", "rankport.sdk.cli", "export", str(checkpoint), "--kind", "ranker"),
            *("--label-ids", "9693,2152", "--quantize", recipe, "--out", str(bundle), "--overwrite"),
            *("--max-prefix-tokens", "128", "--max-item-tokens", "128", "--name", bundle.stem),
        ]
    )


def install_mb() -> float:
    """What `pip install rankport[runtime]` puts on disk, without pip itself: no torch."""
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        libraries = next((venv / "lib").glob("python*/site-packages"))
        before = _size(libraries)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--no-compile", ".[runtime]"]
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
        assert not (libraries / "torch").exists()
        return (_size(libraries) - before) / MB


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measure(bundle: Path) -> dict[str, object]:
    """Disk, and memory and times of a process by prepacking."""
    disk = _size(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    parts = manifest["quantization"]["parts"]
    weights = sum(part["weights"] * part["bits"] // 8 for part in parts)
    result: dict[str, object] = {"disk_mb": disk / MB, "bits_x_weights_mb": weights / MB}
    for prepacking in ("throughput", "footprint"):
        used = run_watched([sys.executable, "-c", _FIRST_SCORE, str(bundle), prepacking])
        result[prepacking] = used.as_json() | json.loads(used.output.strip().splitlines()[-1])
        result[prepacking] |= serve(bundle, prepacking)  # type: ignore[operator]
    return result


def serve(bundle: Path, prepacking: str) -> dict[str, float]:
    """The server: seconds until it is ready, and its memory after a score over gRPC."""
    from rankport.sdk import Client

    begun = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "rankport.sdk.cli", "serve", str(bundle), "--port", "0"),
            *("--prepacking", prepacking),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if "ready on" in line)
        ready = time.perf_counter() - begun
        with Client(line.split("ready on", 1)[1].split()[0], model=bundle.stem) as client:
            client.score(list(range(60)), [list(range(i, i + 40)) for i in range(10)])
        answered = time.perf_counter() - begun
        memory = Usage.now(process.pid)
    finally:
        process.terminate()
        process.wait()
    return {
        "served_ready_s": ready,
        "served_first_answer_s": answered,
        "served_resident_mb": memory.resident_mb,
        "served_private_mb": memory.private_mb,
    }


def show(console: Console, recipe: str, measured: dict[str, object]) -> None:
    """One table a recipe."""
    table = Table(title=f"Qwen3-0.6B shape, {recipe}", title_justify="left")
    table.add_column("figure")
    for prepacking in ("throughput", "footprint"):
        table.add_column(prepacking, justify="right")
    for name in ("disk_mb", "bits_x_weights_mb"):
        table.add_row(name, f"{measured[name]:,.1f}")
    columns = [measured[prepacking] for prepacking in ("throughput", "footprint")]
    for name in columns[0]:  # type: ignore[attr-defined]
        table.add_row(name, *(f"{column[name]:,.2f}" for column in columns))  # type: ignore[index]
    console.print(table)
    if "export" in measured:
        console.print("export:", measured["export"])


if __name__ == "__main__":
    main()
