"""Next movies with LiGR: train, export with its proof, rank by the bundle, against popularity and item-kNN.

Run with `python -m examples.ligr.run`; figures land in build/ligr/report.json.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.ligr.dataset import DAY, Ratings
from examples.ligr.slates import NEXT_DAYS, Slate, diversity, ndcg, slates_at
from examples.ligr.training import config_of, train
from rankport.sdk import EngineConfig, SetRanker, SetRanking, export

OUT = Path("build") / "ligr"
CUTS, CUT_DAYS = 8, 9
TIMED = 40


def main() -> None:
    """Runs it all and prints a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=OUT, help="where checkpoints, bundles and report go")
    arguments.add_argument("--epochs", type=int, default=2, help="of the training [default: 2]")
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    report = run(given.out, given.epochs)
    (given.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report)


def run(out: Path, epochs: int) -> dict[str, Any]:
    """Splits by time, trains a ranker of each mask, exports and measures."""
    ratings = Ratings.load()
    test_at, learned = split(ratings)
    test = list(slates_at(ratings, test_at))
    rankings: dict[str, Any] = {
        name: measured(test, [_order(slate.candidates[column]) for slate in test])
        for name, column in (("popularity", "week"), ("item-kNN", "near"))
    }
    bundles: dict[str, Any] = {}
    for policy in ("independent", "set-wise"):
        begun_s = time.process_time()
        model = train(config_of(learned, ratings.movie_count, policy), learned, epochs)
        train_s = time.process_time() - begun_s
        model.save(out / f"{policy}.checkpoint")
        bundle = export(out / f"{policy}.checkpoint", out / f"{policy}.bundle", overwrite=True)
        with SetRanker.load(bundle, config=EngineConfig(threads=1)) as ranker:
            rankings[policy] = measured(test, [_ranked(ranker, slate).order for slate in test])
            timings = history_seconds(ranker, test)
        parity = bundle.manifest.parity
        assert parity is not None
        modes = {mode.mode: mode.max_abs_error for mode in parity.modes}
        bundles[policy] = {"train_cpu_s": train_s, "max_abs_error": modes, **timings}
    slates = {"train": len(learned), "test": len(test)}
    return {"slates": slates, "epochs": epochs, "rankings": rankings, "bundles": bundles}


def split(ratings: Ratings) -> tuple[int, list[Slate]]:
    """Gives the moment of the test, and the slates of earlier ones whose next days end before it."""
    test_at = int(ratings.times[-1]) - NEXT_DAYS * DAY
    cuts = [test_at - (NEXT_DAYS + CUT_DAYS * back) * DAY for back in range(CUTS)]
    return test_at, [slate for cut in cuts for slate in slates_at(ratings, cut)]


def measured(test: Sequence[Slate], orders: Sequence[NDArray[np.int64]]) -> dict[str, float]:
    """Averages over slates what orders of their candidates are worth."""
    pairs = list(zip(orders, test, strict=True))
    return {
        "ndcg_at_10": float(np.mean([ndcg(order, slate) for order, slate in pairs])),
        "diversity_at_10": float(np.mean([diversity(order, slate) for order, slate in pairs])),
    }


def history_seconds(ranker: SetRanker, test: Sequence[Slate]) -> dict[str, float]:
    """Times requests of the longest histories: read anew, and with their state kept."""
    longest = sorted(test, key=lambda slate: -len(slate.times))[:TIMED]
    before = [
        {"times": slate.times - 1, "now": slate.now} for slate in longest
    ]  # other events: nothing is kept
    fresh = _median_s(
        [
            lambda slate=slate, timed=timed: ranker.rank(slate.history, slate.candidates, **timed)
            for slate, timed in zip(longest, before, strict=True)
        ]
    )
    kept = _median_s(
        [
            lambda slate=slate, timed=timed: ranker.rank(slate.history, slate.candidates, **timed)
            for slate, timed in zip(longest, before, strict=True)
        ]
    )
    return {"history_read_s": fresh, "history_kept_s": kept, "read_over_kept": fresh / kept}


def print_table(report: dict[str, Any]) -> None:
    """Prints rankings and the largest error of each bundle."""
    print(f"{'':12}  NDCG@10  diversity@10")
    for name, row in report["rankings"].items():
        print(f"{name:12}  {row['ndcg_at_10']:7.4f}  {row['diversity_at_10']:12.3f}")
    for name, row in report["bundles"].items():
        error = max(row["max_abs_error"].values())
        print(f"{name}: max abs error {error:.1e}; a kept history is {row['read_over_kept']:.1f} x as fast")


def _ranked(ranker: SetRanker, slate: Slate) -> SetRanking:
    return ranker.rank(slate.history, slate.candidates, times=slate.times, now=slate.now)


def _order(values: NDArray[np.generic]) -> NDArray[np.int64]:
    return np.argsort(-values.astype(np.float64), kind="stable")


def _median_s(calls: Sequence[Callable[[], object]]) -> float:
    seconds = []
    for call in calls:
        begun_s = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun_s)
    return float(np.median(seconds))


if __name__ == "__main__":
    main()
