"""Document ranking with two towers: train, export, encode to a store, and rank by stored representations.

Run with `python -m examples.towers.run`; figures land in build/towers/report.json.
"""

import argparse
import csv
import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from examples.arguments import add_out, at_least
from examples.towers.cranfield import Collection
from examples.towers.pair_latency import pair_bundle
from examples.towers.training import Trained, save, train
from examples.towers.wide_features import WideIndex
from rankport.sdk import EngineConfig, Key, Scorer, Towers, encode, export

OUT = Path("build") / "towers"
LATENCY_ITEMS, LATENCY_RUNS = 50, 30


def main() -> None:
    """Runs it all and prints a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    add_out(arguments, OUT)
    arguments.add_argument(
        "--body-steps",
        type=at_least(0),
        default=0,
        help="steps that train MiniLM itself, about .5 s each [default: 0]",
    )
    given = arguments.parse_args()
    out: Path = given.out
    disable_progress_bar()
    set_verbosity_error()  # of a head that is not in MiniLM's checkpoint
    report = run(out, given.body_steps)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report)


def run(out: Path, body_steps: int = 0) -> dict[str, Any]:
    """Trains, exports, encodes, ranks and measures."""
    seconds: dict[str, float] = {}
    collection = Collection.load()
    index = WideIndex.build(collection)
    trained = _timed(seconds, "train", lambda: train(collection, index, body_steps=body_steps))
    checkpoint = save(trained, out / "checkpoint")
    bundle = _timed(
        seconds,
        "export",
        lambda: export(checkpoint, out / "towers.bundle", overwrite=True, on_progress=print),
    )
    shutil.rmtree(out / "rows.lmdb", ignore_errors=True)
    _write_items(collection, out / "items.csv")
    columns: dict[str, Any] = {"id_column": "id", "text_columns": ["text"]}
    _timed(
        seconds,
        "encode",
        lambda: encode(bundle.path, out / "items.csv", out / "rows.lmdb", **columns),
    )
    pairs = _timed(seconds, "export cross-encoder", lambda: pair_bundle(out))
    config = EngineConfig(threads=2)
    with (
        Towers.load(bundle, store=out / "rows.lmdb", config=config) as towers,
        Scorer.load(pairs, config=config) as cross_encoder,
    ):
        scores, apart = _timed(seconds, "rank", lambda: _ranked(towers, collection, index, trained))
        latency = _latency(towers, cross_encoder, collection, index)
    return {
        "queries": {"train": len(collection.train), "test": len(collection.test)},
        "docs": len(collection.docs),
        "ndcg_at_10": _quality(collection, index, trained)
        | {"bundle": collection.ndcg(scores, collection.test)},
        "largest_difference_from_checkpoint": apart,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "latency_ms": latency,
    }


def _ranked(
    towers: Towers, collection: Collection, index: WideIndex, trained: Trained
) -> tuple[list[NDArray[np.float32]], float]:
    """Scores every stored document for each test query, and tells how far that is from the checkpoint's own logits."""
    keys = [Key(str(place)) for place in range(len(collection.docs))]
    scores, apart = [], 0.0
    for place in collection.test.tolist():
        query = collection.queries[place]
        result = towers.score(query, keys, features=index.features(query))
        own = trained.logits(place, index.columns([query])[0])
        apart = max(apart, float(np.abs(result.logits[:, 0] - own).max()))
        scores.append(result.scores)
    return scores, apart


def _quality(collection: Collection, index: WideIndex, trained: Trained) -> dict[str, float]:
    places = collection.test
    queries = [collection.queries[place] for place in places]
    docs = trained.docs / np.linalg.norm(trained.docs, axis=1, keepdims=True)
    return {
        "bm25": collection.ndcg([index.texts.scores(query) for query in queries], places),
        "minilm_cosine": collection.ndcg([docs @ row for row in trained.queries[places]], places),
        "checkpoint": collection.ndcg(
            [
                trained.logits(place, index.columns([collection.queries[place]])[0])
                for place in places.tolist()
            ],
            places,
        ),
    }


def _latency(
    towers: Towers, cross_encoder: Scorer, collection: Collection, index: WideIndex
) -> dict[str, float]:
    """Measures the median time of a request of `LATENCY_ITEMS` documents: stored, given, as texts, and in pairs."""
    keys = [Key(str(place)) for place in range(LATENCY_ITEMS)]
    texts = list(collection.docs[:LATENCY_ITEMS])
    queries = [collection.queries[place] for place in collection.test.tolist()]
    rows = towers.represent(texts, side="item", truncation="truncate")
    wide = {
        query: {name: own[:LATENCY_ITEMS] for name, own in index.features(query).items()} for query in queries
    }
    asked = {query: towers.represent([query], side="query")[0] for query in queries}

    def median(score: Callable[[str], object], runs: int = LATENCY_RUNS) -> float:
        times = []
        for turn in range(runs):
            query = queries[turn % len(queries)]
            begun_s = time.perf_counter()
            score(query)
            times.append(time.perf_counter() - begun_s)
        return round(1000 * statistics.median(times), 2)

    return {
        "query_text_and_stored_items": median(lambda query: towers.score(query, keys, features=wide[query])),
        "given_representations": median(lambda query: towers.score(asked[query], rows, features=wide[query])),
        "query_and_item_texts": median(
            lambda query: towers.score(query, texts, features=wide[query], truncation="truncate"), runs=2
        ),
        "cross_encoder_of_the_same_body": median(
            lambda query: cross_encoder.score(query, texts, truncation="truncate"), runs=2
        ),
    }


def _write_items(collection: Collection, file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text"])
        writer.writerows((str(place), text) for place, text in enumerate(collection.docs))


def _timed(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    begun_s = time.perf_counter()
    result = work()
    seconds[name] = time.perf_counter() - begun_s
    return result


def print_table(report: Mapping[str, Any]) -> None:
    """Prints the figures that a reader looks for."""
    quality, latency = report["ndcg_at_10"], report["latency_ms"]
    print(f"\nNDCG@10, {report['queries']['test']} test queries over {report['docs']} documents")
    for name, value in quality.items():
        print(f"  {name:<16}{value:.3f}")
    print(
        f"largest difference of a logit from the checkpoint's: {report['largest_difference_from_checkpoint']:.1e}"
    )
    print(f"milliseconds a request of {LATENCY_ITEMS} documents")
    for name, value in latency.items():
        print(f"  {name:<32}{value:.2f}")
    print("seconds: " + ", ".join(f"{name} {value}" for name, value in report["seconds"].items()))


if __name__ == "__main__":
    main()
