"""What low bits cost and bring: size, ranking quality and speed of each recipe beside fp32.

    python -m benchmarks.lowbit [--rounds 5] [--out build/bench]

Quality is NDCG on the judged ESCO job titles (what `make demo` leaves in build/demo), calibrated on queries of the
training split; every bundle is an export whose parity with its own low-bit maths was proven. Speed is the engine's, by
request shape, on the ESCO ranker and on the random 8 x 512 model of benchmarks.scoring; rounds are interleaved.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from benchmarks.parts.model import Case, Request, save_checkpoint
from examples.esco.dataset import Dataset
from examples.esco.evaluate import write_judged_requests
from rankport.exporters.export import export
from rankport.exporters.options.tolerance import Tolerance
from rankport.protos.types import Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.store.opening import open_store

DEMO = Path("build/demo")
ESCO = Path(__file__).parents[1] / "examples" / "esco"
RECIPES: tuple[str | None, ...] = (None, "int8", "int4", "fp8")
TEXT = (Case(50, 50, 150), Case(256, 64, 32))
MIX = Case(60, 250, 2)
ITEMS, QUERIES = 100, 4
CALIBRATION_REQUESTS = 128


def main() -> None:
    """Exports every recipe, then measures all side by side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    if not (DEMO / "tokens.lmdb").exists():
        sys.exit("the judged requests and the token store come from the demo: run `make demo` first")
    console = Console()
    dataset = Dataset.load()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_judged_requests(dataset.split("train")[:CALIBRATION_REQUESTS], work / "calibration.jsonl")
        with console.status("exporting") as status:

            def note(what: str) -> Callable[[str], None]:
                return lambda step: status.update(f"{what}: {step}")

            esco = {
                _name(recipe): _export_esco(recipe, work, note(f"ESCO {_name(recipe)}")) for recipe in RECIPES
            }
            random = save_checkpoint(work / "random")
            shaped = {
                _name(recipe): _export_random(random, recipe, work, note(f"8 x 512 {_name(recipe)}"))
                for recipe in RECIPES
            }
            facts = {name: _facts(bundle) for name, bundle in esco.items()}
            status.update("measuring speed")
            speed = _esco_speed(esco, dataset, arguments.rounds) | _shape_speed(shaped, arguments.rounds)
    report = {
        "recipes": facts,
        "seconds": speed,
        "speedup_over_fp32": {
            case: {name: seconds["fp32"] / value for name, value in seconds.items()}
            for case, seconds in speed.items()
        },
        "machine": describe_machine(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "lowbit.json"
    file.write_text(json.dumps(report, indent=2) + "\n")
    show(console, report)
    console.print(f"figures: {file}")


def _name(recipe: str | None) -> str:
    return recipe or "fp32"


def _export_esco(recipe: str | None, work: Path, on_progress: Callable[[str], None]) -> Bundle:
    options: dict[str, object] = {} if recipe is None else {"calibration": work / "calibration.jsonl"}
    return export(
        ESCO / "checkpoint",
        work / f"esco-{_name(recipe)}",
        kind="ranker",
        item_encoder=DEMO / "encoder.bundle",
        prompt=ESCO / "prompt.toml",
        judged=DEMO / "judged.jsonl",
        store=DEMO / "tokens.lmdb",
        quantize=recipe,
        tolerance=Tolerance(max_ndcg_loss=1.0),  # reported, not judged
        on_progress=on_progress,
        **options,
    )


def _export_random(
    checkpoint: Path, recipe: str | None, work: Path, on_progress: Callable[[str], None]
) -> Bundle:
    limits = {"max_prefix_tokens": 256, "max_item_tokens": 256}
    return export(
        checkpoint,
        work / f"random-{_name(recipe)}",
        kind="ranker",
        quantize=recipe,
        # Speed alone is measured here, and random weights have near ties everywhere.
        tolerance=Tolerance(min_kendall_tau=0.9),
        on_progress=on_progress,
        **limits,
    )


def _facts(bundle: Bundle) -> dict[str, object]:
    manifest = bundle.manifest
    quantization, quality, drift = manifest.quantization, manifest.quality, manifest.drift
    assert manifest.parity is not None
    assert quality is not None
    parts = [] if quantization is None else quantization.parts
    whole = manifest.source.parameters - sum(part.weights for part in parts)
    bits = sum(part.weights * part.bits for part in parts) + 32 * whole
    return {
        "disk_mb": sum(entry.size for entry in manifest.files) / 1e6,
        "weights_file_over_bits_x_weights": (bundle.path / "weights.bin").stat().st_size / (bits / 8),
        "method": None if quantization is None else quantization.method,
        "ndcg_at_1": quality.ndcg_at_1_bundle,
        "ndcg_at_10": quality.ndcg_at_10_bundle,
        "kendall_tau_to_fp32": 1.0 if drift is None else drift[-1].kendall_tau,
        "parity_relative_error": max(mode.relative_error or 0.0 for mode in manifest.parity.modes),
        "parity_kendall_tau": min(mode.kendall_tau for mode in manifest.parity.modes),
    }


def _esco_speed(bundles: Mapping[str, Bundle], dataset: Dataset, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds a query of 100 items, as texts and as stored tokens."""
    items = dataset.items[:ITEMS]
    texts, keys = [item.text for item in items], [Key(item.id) for item in items]
    queries = [query.text for query in dataset.split("train")]
    forms: dict[str, list[str] | list[Key]] = {"ESCO, 100 texts": texts, "ESCO, 100 x 2 tokens": keys}
    with ExitStack() as opened:
        # LMDB opens an environment once a process.
        store = opened.enter_context(open_store(DEMO / "tokens.lmdb", read_only=True))
        rankers = {
            name: opened.enter_context(Ranker.load(bundle, store=store)) for name, bundle in bundles.items()
        }

        def run(form: str, name: str, round_: int) -> None:
            for query in queries[round_ * QUERIES : (round_ + 1) * QUERIES]:
                rankers[name].score({"query": query}, forms[form], truncation="truncate")

        measured = {form: _interleaved(rankers, lambda n, r, f=form: run(f, n, r), rounds) for form in forms}  # type: ignore[misc]
    return {
        form: {name: value / QUERIES for name, value in times.items()} for form, times in measured.items()
    }


def _shape_speed(bundles: Mapping[str, Bundle], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds a request of the random model, each with a prefix not seen before."""
    measured = {}
    with ExitStack() as opened:
        rankers = {name: opened.enter_context(Ranker.load(bundle)) for name, bundle in bundles.items()}
        for case in (*TEXT, MIX):

            def run(name: str, round_: int, case: Case = case) -> None:
                request = Request.random(case, seed=round_)
                rankers[name].score(request.prefix, request.items)

            measured[case.name] = _interleaved(rankers, run, rounds)
    return measured


def _interleaved(
    names: Mapping[str, object], run: Callable[[str, int], None], rounds: int
) -> dict[str, float]:
    """Median seconds by name; every round runs all once, the first is not counted."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(rounds + 1):
        for name in names:
            begun = time.perf_counter()
            run(name, round_)
            if round_ > 0:
                times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def show(console: Console, report: Mapping[str, object]) -> None:
    """Quality and size by recipe, then the speed against fp32 by shape."""
    recipes: Mapping[str, Mapping[str, float]] = report["recipes"]  # type: ignore[assignment]
    table = Table(title="ESCO job titles, 120 test queries", title_justify="left")
    for heading in ("recipe", "MB", "of bits x weights", "NDCG@1", "NDCG@10", "tau to fp32", "parity"):
        table.add_column(heading, justify="left" if heading == "recipe" else "right")
    for name, facts in recipes.items():
        table.add_row(
            name,
            f"{facts['disk_mb']:.1f}",
            f"{facts['weights_file_over_bits_x_weights']:.3f}",
            f"{facts['ndcg_at_1']:.4f}",
            f"{facts['ndcg_at_10']:.4f}",
            f"{facts['kendall_tau_to_fp32']:.4f}",
            f"{facts['parity_relative_error']:.1e}",
        )
    console.print(table)
    speed: Mapping[str, Mapping[str, float]] = report["speedup_over_fp32"]  # type: ignore[assignment]
    table = Table(title="Speed against fp32 in the same rounds", title_justify="left")
    table.add_column("request")
    for name in recipes:
        table.add_column(name, justify="right")
    for case, ratios in speed.items():
        table.add_row(case, *(f"{ratios[name]:.2f} x" for name in recipes))
    console.print(table)


if __name__ == "__main__":
    main()
