"""List ranker, end to end: train, export for blocks of 5, 20 and 125, judge. `python -m examples.listwise.run`

Writes build/listwise: the checkpoint, its bundles and report.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.arguments import add_out
from examples.esco.baselines import cosine_ndcg, mean_ndcg
from examples.esco.dataset import Dataset, JudgedQuery
from examples.esco.evaluate import score_checkpoint
from examples.esco.minilm import MiniLM, minilm_path
from examples.esco.train_ranker import CHECKPOINT_DIR
from examples.listwise.body import Demo, list_ranker
from examples.listwise.lists import lengthened, shuffled
from examples.listwise.training import TrainingConfig, train
from rankport.exporters.proof.metrics import kendall_tau
from rankport.runtime.bundle.bundle import Bundle
from rankport.sdk import ItemEncoder, Scorer, export

OUT = Path("build/listwise")
BLOCKS = (5, 20, 125)
LONG_QUERIES = 40  # of the test split, which get 125 candidates
SPLITS = {"test": "by query", "unseen-test": "unseen items", "long": "125 candidates"}
MANY_TOKENS = 50  # of an item, once

Tokens = NDArray[np.float16]
Lists = Mapping[str, Sequence[JudgedQuery]]
Row = dict[str, float]


def main() -> None:
    """Runs every step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(parser, OUT)
    report = run(parser.parse_args().out, Console())
    error = max(report["max_abs_error"].values())
    if error > 1e-5:
        sys.exit(f"the bundle scores otherwise than its checkpoint: by up to {error:.1e}")


def run(folder: Path, console: Console) -> dict[str, Any]:
    """Trains, exports, judges and prints the table. Returns the report, which it writes."""
    started = time.perf_counter()
    disable_progress_bar()
    dataset = Dataset.load()
    console.print("item encoder, and tokens of 2,590 occupations")
    encoder = export(
        minilm_path(), folder / "encoder.bundle", kind="item-encoder", max_item_tokens=256, overwrite=True
    )
    tokens = encoded(encoder, dataset)
    console.print("training")
    begun = time.process_time()
    make_checkpoint(dataset, tokens, folder / "checkpoint")
    train_s = time.process_time() - begun
    bundles = {block: exported(folder, f"blocks-of-{block}", encoder.path, block) for block in BLOCKS}
    ndcg, rates = judged(
        dataset, tokens, {f"list-ranker, blocks of {n}": made for n, made in bundles.items()}
    )
    many = exported(folder, "many-tokens", "0" * 64, BLOCKS[-1], MANY_TOKENS)
    report = {
        "ndcg_at_10": ndcg,
        "items_per_s": rates | {f"{MANY_TOKENS} tokens an item": many_tokens_rate(many)},
        "max_abs_error": errors([*bundles.values(), many]),
        "kendall_tau_of_orders": order_tau(bundles[BLOCKS[-1]], dataset, tokens),
        "train_cpu_s": train_s,
        "seconds": time.perf_counter() - started,
        "machine": describe_machine(),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(console, report)
    console.print(f"[dim]{folder / 'report.json'}; {report['seconds']:.0f} s")
    return report


def make_checkpoint(
    dataset: Dataset, tokens: Tokens, path: Path, config: TrainingConfig | None = None
) -> None:
    """Trains the feedback and writes the checkpoint; `tokens` [items, hidden] are in dataset order."""
    demo = Demo.load(tokens[list(dataset.training_rows())])
    feedback = demo.feedback()
    train(feedback, dataset, tokens, demo.query_vectors, config or TrainingConfig())
    model, tokenizer = list_ranker(demo, feedback)
    model.save(path)
    tokenizer.backend_tokenizer.save(str(path / "tokenizer.json"))  # type: ignore[attr-defined]


def exported(
    folder: Path, name: str, encoder: Path | str, block: int, embedding_tokens: int | None = None
) -> Bundle:
    """Exports the checkpoint for blocks of a size."""
    return export(
        folder / "checkpoint",
        folder / f"{name}.bundle",
        kind="list-ranker",
        item_encoder=encoder,
        embedding_tokens=embedding_tokens,
        max_list_items=block,
        max_list_tokens=8192,
        overwrite=True,
    )


def encoded(encoder: Bundle, dataset: Dataset) -> Tokens:
    """Makes each occupation's token. [items, hidden]"""
    with ItemEncoder.load(encoder) as model:
        made = model.encode([item.text for item in dataset.items], truncation="truncate")
    tokens: Tokens = made[:, 0].astype(np.float16)
    return tokens


def judged(
    dataset: Dataset, tokens: Tokens, bundles: Mapping[str, Bundle]
) -> tuple[dict[str, Row], dict[str, float]]:
    """Gives NDCG@10 of each ranker by split, and items a second of the bundles."""
    lists = {split: shuffled(dataset.split(split)) for split in SPLITS if split != "long"}
    lists["long"] = lengthened(dataset, dataset.split("test")[:LONG_QUERIES], BLOCKS[-1])
    minilm, vectors = MiniLM.load(), tokens.astype(np.float32)
    ndcg: dict[str, Row] = {
        "MiniLM's cosine": {
            split: cosine_ndcg(dataset, part, minilm.encode([query.text for query in part]), vectors)
            for split, part in lists.items()
        },
        "the demo's ranker, point by point": {
            split: mean_ndcg(part, score_checkpoint(CHECKPOINT_DIR, dataset, part, tokens))
            for split, part in lists.items()
        },
    }
    rates = {}
    for name, bundle in bundles.items():
        ndcg[name], rates[name] = by_bundle(bundle, dataset, tokens, lists)
    return ndcg, rates


def by_bundle(bundle: Bundle, dataset: Dataset, tokens: Tokens, lists: Lists) -> tuple[Row, float]:
    """Gives NDCG@10 by split, and items a second of all."""
    begun, items, ndcg = time.perf_counter(), 0, {}
    with Scorer.load(bundle) as scorer:
        for split, part in lists.items():
            scores = [scores_by_id(scorer, query, dataset, tokens) for query in part]
            ndcg[split] = mean_ndcg(part, [np.array(list(row.values())) for row in scores])
            items += sum(map(len, scores))
    return ndcg, items / (time.perf_counter() - begun)


def order_tau(bundle: Bundle, dataset: Dataset, tokens: Tokens) -> float:
    """Averages Kendall's tau of the rankings of the same candidates in two random orders."""
    queries, taus = dataset.split("test"), []
    with Scorer.load(bundle) as scorer:
        for one, other in zip(shuffled(queries, seed=1), shuffled(queries, seed=2), strict=True):
            first, second = (scores_by_id(scorer, query, dataset, tokens) for query in (one, other))
            taus.append(kendall_tau(np.array(list(first.values())), np.array([second[id] for id in first])))
    return float(np.mean(taus))


def scores_by_id(scorer: Scorer, query: JudgedQuery, dataset: Dataset, tokens: Tokens) -> dict[str, float]:
    """Scores the candidates of a query in their order."""
    rows = dataset.rows()
    items = [tokens[rows[id]][None] for id in query.item_ids]
    scores = scorer.score({"query": query.text}, items).scores
    return dict(zip(query.item_ids, scores.tolist(), strict=True))


def many_tokens_rate(bundle: Bundle) -> float:
    """Counts items a second of lists of a block, each item as many tokens: an untrained use, for its cost alone."""
    rng = np.random.default_rng(0)
    items = list((rng.standard_normal((BLOCKS[-1], MANY_TOKENS, 384)) / 384**0.5).astype(np.float16))
    with Scorer.load(bundle) as scorer:
        begun = time.perf_counter()
        scorer.score({"query": "night nurse"}, items)
        return len(items) / (time.perf_counter() - begun)


def errors(bundles: Sequence[Bundle]) -> dict[str, float]:
    """Gives the largest difference from the checkpoint in each mode of the proofs."""
    largest: dict[str, float] = {}
    for bundle in bundles:
        assert bundle.manifest.parity is not None
        for mode in bundle.manifest.parity.modes:
            largest[mode.mode] = max(largest.get(mode.mode, 0.0), mode.max_abs_error)
    return largest


def print_table(console: Console, report: Mapping[str, Any]) -> None:
    """Prints NDCG and rates."""
    table = Table(title="ESCO job titles, NDCG@10", title_justify="left")
    for heading in ("ranker", *SPLITS.values(), "items/s"):
        table.add_column(heading)
    for name, row in report["ndcg_at_10"].items():
        rate = report["items_per_s"].get(name)
        table.add_row(
            name, *(f"{row[split]:.4f}" for split in SPLITS), "" if rate is None else f"{rate:,.0f}"
        )
    console.print(table)
    console.print(f"Kendall's tau of two random orders: {report['kendall_tau_of_orders']:.3f}")
    many = f"{MANY_TOKENS} tokens an item"
    console.print(f"{many}: {report['items_per_s'][many]:,.0f} items/s")


if __name__ == "__main__":
    main()
