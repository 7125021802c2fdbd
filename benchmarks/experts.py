"""A mixture of experts on this CPU: the chosen ones alone, in fp32 and low bits, beside all of them and beside torch.

    python -m benchmarks.experts [--rounds 5] [--out build/bench]

Qwen3-MoE-shaped, 2 layers of 512 with 64 experts of 256 each, 8 a token, random. `every expert` is the same export with
each expert computing each token; torch is transformers with the prefix's KV repeated, its experts as it picks them
(`torch`) and by grouped products (`torch, grouped`). Answers of fp32 are compared first. The ceiling is the time of the
matrix products of the chosen experts and of attention, each at the best that torch or ONNX Runtime reaches here.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers import Qwen3MoeConfig

from benchmarks.machine import describe_machine
from benchmarks.parts.ceiling import Ceiling, Product, score_products
from benchmarks.parts.model import VOCABULARY, Case, Request, save_checkpoint
from benchmarks.peers.scoring import TransformersPeer
from rankport.exporters.export import export
from rankport.exporters.graphs.experts import traceable
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.temporary_attributes import temporary_attributes
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.ranker.ranker import Ranker

CONFIG = Qwen3MoeConfig(  # type: ignore[call-arg]
    vocab_size=VOCABULARY,
    hidden_size=512,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=64,
    intermediate_size=1536,
    moe_intermediate_size=256,
    num_experts=64,
    num_experts_per_tok=8,
    num_labels=1,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
CASES = (Case(256, 64, 32), Case(60, 250, 2), Case(60, 1, 32))
VARIANTS = {"fp32": None, "int8": "int8", "int4": "int4", "every expert": None}
MOST_OFF = 1e-3
Run = Callable[[Request], NDArray[np.float32]]


def main() -> None:
    """Exports every variant, then measures all side by side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        work = Path(folder)
        with console.status("exporting") as status:
            checkpoint = save_checkpoint(work / "checkpoint", CONFIG)
            bundles = {name: _export(checkpoint, name, work / name, status.update) for name in VARIANTS}
            runs = {
                name: _scored_by(opened.enter_context(Ranker.load(bundle)))
                for name, bundle in bundles.items()
            }
            peer = TransformersPeer(checkpoint)
            runs["torch"] = peer.repeated_prefix
            runs["torch, grouped"] = _grouped(peer)
            _require_alike(runs)
            figures = {case.name: _measured(case, runs, arguments.rounds, status.update) for case in CASES}
        disk = {
            name: sum(entry.size for entry in bundle.manifest.files) / 1e6 for name, bundle in bundles.items()
        }
    report = {"disk_mb": disk, "cases": figures, "machine": describe_machine()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "experts.json"
    file.write_text(json.dumps(report, indent=2) + "\n")
    _show(console, disk, figures)
    console.print(f"figures: {file}")


def _export(checkpoint: Path, name: str, out: Path, on_progress: Callable[[str], None]) -> Bundle:
    whole = (
        temporary_attributes(traceable, {"swiglu_of": lambda _: None})
        if name == "every expert"
        else _as_it_is()
    )
    with whole:
        return export(
            checkpoint,
            out,
            kind="ranker",
            quantize=VARIANTS[name],
            max_prefix_tokens=256,
            max_item_tokens=64,
            # Speed alone is measured here, and random weights have near ties everywhere.
            tolerance=Tolerance(
                max_abs_error=MOST_OFF if VARIANTS[name] is None else None, min_kendall_tau=0.9
            ),
            on_progress=lambda step: on_progress(f"{name}: {step}"),
        )


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def _scored_by(ranker: Ranker) -> Run:
    return lambda request: ranker.score(request.prefix, request.items).logits[:, 0]


def _grouped(peer: TransformersPeer) -> Run:
    def run(request: Request) -> NDArray[np.float32]:
        with temporary_attributes(peer.model.config, {"_experts_implementation": "grouped_mm"}):
            return peer.repeated_prefix(request)

    return run


def _require_alike(runs: dict[str, Run]) -> None:
    """Ends the benchmark where a contender in full precision answers with other numbers than the first."""
    request = Request.random(Case(40, 8, 12), seed=99)
    expected = runs["fp32"](request)
    for name, run in runs.items():
        off = float(np.abs(run(request) - expected).max())
        if VARIANTS.get(name) is None and off > MOST_OFF:
            sys.exit(
                f"{name} is {off:.1e} off fp32's logits, more than {MOST_OFF}: no figures of it mean anything"
            )


def _measured(
    case: Case, runs: dict[str, Run], rounds: int, on_progress: Callable[[str], None]
) -> dict[str, object]:
    """Median seconds a request whose prefix is new, and of the ceiling's products; rounds are interleaved."""
    ceiling = Ceiling(_products(case))
    times: dict[str, list[float]] = {name: [] for name in (*runs, "ceiling")}
    for round_ in range(rounds + 1):
        on_progress(f"{case.name}: round {round_} of {rounds}")
        for name, run in runs.items():
            request = Request.random(case, seed=round_)
            begun = time.perf_counter()
            run(request)
            if round_ > 0:
                times[name].append(time.perf_counter() - begun)
        times["ceiling"].append(ceiling.seconds())
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return {
        "seconds": seconds,
        "speedup_over_every_expert": {
            name: seconds["every expert"] / value for name, value in seconds.items()
        },
        "share_of_ceiling": seconds["ceiling"] / seconds["fp32"],
    }


def _products(case: Case) -> Counter[Product]:
    """Products of a prefill and of a pass of items, each token's experts as evenly chosen as can be."""
    products: Counter[Product] = Counter()
    for part in (Case(1, 1, case.prefix), case):
        tokens = part.items * part.item
        dense = score_products(part, CONFIG)
        attention = {key: count for key, count in dense.items() if CONFIG.intermediate_size not in key}
        hidden, width, layers = CONFIG.hidden_size, CONFIG.moe_intermediate_size, CONFIG.num_hidden_layers
        used = min(CONFIG.num_experts, tokens * CONFIG.num_experts_per_tok)
        rows = tokens * CONFIG.num_experts_per_tok // used
        products.update(attention)
        products.update({(1, rows, hidden, 2 * width): used * layers})
        products.update({(1, rows, width, hidden): used * layers})
    return products


def _show(console: Console, disk: dict[str, float], figures: dict[str, dict[str, object]]) -> None:
    table = Table(title="Speed against every expert in the same rounds", title_justify="left")
    for heading in ("contender", "MB", *figures):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for name in (*VARIANTS, "torch", "torch, grouped"):
        ratios = [figure["speedup_over_every_expert"][name] for figure in figures.values()]  # type: ignore[index]
        size = f"{disk[name]:.0f}" if name in disk else ""
        table.add_row(name, size, *(f"{ratio:.2f} x" for ratio in ratios))
    shares = (figure["share_of_ceiling"] for figure in figures.values())
    table.add_row("fp32 of the ceiling", "", *(f"{share:.0%}" for share in shares))
    console.print(table)


if __name__ == "__main__":
    main()
