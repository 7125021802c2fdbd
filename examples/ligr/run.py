"""Next movies with LiGR: train, export with its proof, rank by the bundle, against popularity and item-kNN.

Run with `python -m examples.ligr.run`; figures land in build/ligr/report.json.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.arguments import add_out
from examples.ligr.dataset import DAY, Ratings, Whole
from examples.ligr.slates import NEXT_DAYS, Slate, by_id, diversity, ndcg, slates_at
from examples.ligr.training import TrainingConfig, config_of, train
from rankport.sdk import EngineConfig, SetRanker, SetRanking, export

OUT = Path("build") / "ligr"
POLICIES = ("independent", "set-wise")
CUTS, CUT_DAYS = 14, 7  # moments of the training, and the days between them
TIMED = 40
RESAMPLES, SEED = 2000, 7
Scores = NDArray[np.float64]


def main() -> None:
    """Runs it all and prints a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    add_out(arguments, OUT)
    given = arguments.parse_args()
    report = run(given.out, TrainingConfig())
    (given.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report)


def run(out: Path, config: TrainingConfig) -> dict[str, Any]:
    """Splits by time, trains a ranker of each mask, exports and measures."""
    begun_s = time.process_time()
    ratings = Ratings.load()
    test, learned = split(ratings)
    orders = {name: [_order(slate.rules[name]) for slate in test] for name in test[0].rules}
    slates_s = time.process_time() - begun_s
    bundles: dict[str, Any] = {}
    for policy in POLICIES:
        orders[policy], bundles[policy] = ranked_by_model(out, policy, ratings, learned, test, config)
    gains = {name: np.array(list(map(ndcg, order, test))) for name, order in orders.items()}
    return {
        "slates": {"train": len(learned), "test": len(test)},
        "rankings": {name: measured(test, orders[name], gains[name]) for name in orders},
        "differences": {policy: differences(gains, policy) for policy in POLICIES},
        "bundles": bundles,
        "slates_cpu_s": slates_s,
        "cpu_s": time.process_time() - begun_s,
    }


def split(ratings: Ratings) -> tuple[list[Slate], list[Slate]]:
    """Gives the slates of the test's moment, and those of earlier ones whose next days end before it."""
    test_at = int(ratings.times[-1]) - NEXT_DAYS * DAY
    cuts = [test_at - (NEXT_DAYS + CUT_DAYS * back) * DAY for back in range(CUTS)]
    return list(slates_at(ratings, test_at)), [slate for cut in cuts for slate in slates_at(ratings, cut)]


def ranked_by_model(
    out: Path,
    policy: str,
    ratings: Ratings,
    learned: Sequence[Slate],
    test: Sequence[Slate],
    config: TrainingConfig,
) -> tuple[list[Whole], dict[str, Any]]:
    """Trains, exports and gives the bundle's orders of the test's slates, with what it took."""
    begun_s = time.process_time()
    model = train(config_of(learned, ratings.movie_count, policy, config.hidden), learned, config)
    train_s = time.process_time() - begun_s
    model.with_ids({"movie": ratings.ids}).save(out / f"{policy}.checkpoint")
    asked = [by_id(slate, ratings.ids) for slate in test]
    bundle = export(out / f"{policy}.checkpoint", out / f"{policy}.bundle", overwrite=True)
    with SetRanker.load(bundle, config=EngineConfig(threads=1)) as ranker:
        orders = [_ranked(ranker, slate).order for slate in asked]
        timings = history_seconds(ranker, asked)
    parity = bundle.manifest.parity
    assert parity is not None
    modes = {mode.mode: mode.max_abs_error for mode in parity.modes}
    return orders, {"train_cpu_s": train_s, "max_abs_error": modes, **timings}


def measured(test: Sequence[Slate], orders: Sequence[Whole], gains: Scores) -> dict[str, float]:
    """Averages over slates what orders of their candidates are worth."""
    return {
        "ndcg_at_10": float(gains.mean()),
        "diversity_at_10": float(np.mean(list(map(diversity, orders, test)))),
    }


def differences(gains: Mapping[str, Scores], policy: str) -> dict[str, Any]:
    """Gives by how much NDCG@10 of a ranker is above each other's, and the 95 % interval over the users."""
    return {
        name: {"mean": float((gains[policy] - others).mean()), "interval": interval(gains[policy] - others)}
        for name, others in gains.items()
        if name != policy
    }


def interval(values: Scores) -> tuple[float, float]:
    """Finds the 95 % interval of a mean by drawing users anew; a user has one slate."""
    rng = np.random.default_rng(SEED)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


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
    print(f"{'':28}  NDCG@10  diversity@10")
    for name, row in report["rankings"].items():
        print(f"{name:28}  {row['ndcg_at_10']:7.4f}  {row['diversity_at_10']:12.3f}")
    for policy, others in report["differences"].items():
        for name, row in others.items():
            low, high = row["interval"]
            print(f"{policy} above {name}: {row['mean']:.4f} ({low:.4f} to {high:.4f})")
    for name, row in report["bundles"].items():
        error = max(row["max_abs_error"].values())
        print(f"{name}: max abs error {error:.1e}; a kept history is {row['read_over_kept']:.1f} x as fast")


def _ranked(ranker: SetRanker, slate: Slate) -> SetRanking:
    return ranker.rank(slate.history, slate.candidates, times=slate.times, now=slate.now)


def _order(values: NDArray[np.generic]) -> Whole:
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
