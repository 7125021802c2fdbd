"""The main job on real input: checkpoint -> bundle -> embedding tokens -> gRPC scores. Run by `make demo`.

Every step is the command a user would run; what it prints is kept. The judged ESCO job titles say how good it is.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.esco.baselines import bm25_ndcg, cosine_ndcg, mean_ndcg, random_ndcg
from examples.esco.dataset import Dataset, JudgedQuery
from examples.esco.evaluate import score_checkpoint, write_items, write_judged_requests
from examples.esco.minilm import MiniLM, minilm_path
from examples.esco.throughput import measure_throughput
from rankport.protos.types import Key
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.store.opening import open_store
from rankport.sdk import Client
from rankport.sdk.cli.output.progress import steps

HERE = Path(__file__).parent
OUT = Path("build/demo")
JUDGED = {"test": "by query", "unseen-test": "unseen items"}
"""Splits in the demo's tables: queries that training never saw, on items it saw and on items it never saw."""


def main() -> None:
    """Runs every step and writes build/demo/report.json."""
    console = Console()
    disable_progress_bar()  # transformers' own, one for every load
    started = time.perf_counter()
    OUT.mkdir(parents=True, exist_ok=True)
    dataset = Dataset.load()
    queries = dataset.split("test")  # what `rankport verify` judges
    write_items(dataset.items, OUT / "items.csv")
    write_judged_requests(queries, OUT / "judged.jsonl")

    console.rule("1  export the item encoder: MiniLM, 22.7 M parameters")
    encoder, ranker, store = OUT / "encoder.bundle", OUT / "ranker.bundle", OUT / "tokens.lmdb"
    rankport(
        *(
            "export",
            minilm_path(),
            "--kind",
            "item-encoder",
            "--max-item-tokens",
            256,
            "--name",
            "esco-encoder",
        ),
        *("--out", encoder, "--overwrite"),
    )
    console.rule("2  export the ranker trained on its tokens")
    rankport(
        *(
            "export",
            HERE / "checkpoint",
            "--kind",
            "ranker",
            "--item-encoder",
            encoder,
            "--name",
            "esco-ranker",
        ),
        *("--prompt", HERE / "prompt.toml", "--out", ranker, "--overwrite"),
    )
    console.rule("3  encode 2,590 occupations into the token store")
    rankport(
        *("encode", "--bundle", encoder, "--items", OUT / "items.csv", "--id-column", "item_id"),
        *("--text-column", "text", "--store", store),
    )
    console.rule("4  verify on judged requests: bundle against checkpoint")
    rankport(
        *(
            "verify",
            ranker,
            "--checkpoint",
            HERE / "checkpoint",
            "--judged",
            OUT / "judged.jsonl",
            "--store",
            store,
        ),
        *("--json", OUT / "verify.json"),
    )
    console.rule("5  serve, and score the test queries over gRPC")
    with server(ranker, encoder, "--store", store) as address, Client(address, model="esco-ranker") as client:
        show_one(console, client, dataset, queries[0])
        served = {split: served_ndcg(client, dataset.split(split)) for split in JUDGED}

    console.rule("6  compare")
    with steps(console) as say:
        say("MiniLM cosine, BM25, and the checkpoint in torch")
        minilm, tokens = MiniLM.load(), stored_tokens(dataset, encoder, store)
        quality = {
            split: baselines(dataset, dataset.split(split), minilm, tokens) | {"bundle_grpc": served[split]}
            for split in JUDGED
        }
    with steps(console) as say:
        say("items/s of full-text prompts, shared prefix, embedding tokens")
        speed = measure_throughput(HERE / "checkpoint", ranker, store, dataset)
    report = {
        "ndcg_at_10": quality,
        "queries": {split: len(dataset.split(split)) for split in JUDGED},
        "items_per_s": speed,
        "seconds": time.perf_counter() - started,
        "machine": describe_machine(),
    }
    (OUT / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print_quality(console, dataset, quality)
    print_speed(console, speed)


def rankport(*arguments: object) -> None:
    """Runs a rankport command, shown as a user would type it; ends the demo if it fails."""
    words = [str(argument) for argument in arguments]
    print("$ rankport", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "rankport.sdk.cli", *words], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)


@contextmanager
def server(*arguments: object) -> Iterator[str]:
    """`rankport serve` on a free port, stopped at the end. Yields its address."""
    words = ["serve", *(str(argument) for argument in arguments), "--port", "0"]
    print("$ rankport", *words, flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "rankport.sdk.cli", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            print(line, end="")
            if "ready on" in line:
                yield line.split("ready on", 1)[1].split()[0]
                return
        sys.exit("the server ended before it was ready")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def show_one(console: Console, client: Client, dataset: Dataset, query: JudgedQuery) -> None:
    """The best candidates of one query."""
    result = client.score({"query": query.text}, [Key(id) for id in query.item_ids])
    titles = {item.id: item.title for item in dataset.items}
    table = Table(title=f"query: {query.text!r}", title_justify="left")
    for heading in ("score", "occupation", "gain"):
        table.add_column(heading)
    for i in result.scores.argsort()[::-1][:5]:
        table.add_row(f"{result.scores[i]:.4f}", titles[query.item_ids[i]], str(query.gains[i]))
    console.print(table)


def served_ndcg(client: Client, queries: Sequence[JudgedQuery]) -> float:
    """Mean NDCG@10 of the scores that a server gives."""
    scores = [client.score({"query": q.text}, [Key(id) for id in q.item_ids]).scores for q in queries]
    return mean_ndcg(queries, scores)


def stored_tokens(dataset: Dataset, encoder: Path, store: Path) -> NDArray[np.float16]:
    """The store's own token of each item, in dataset order. [items, hidden]"""
    with open_store(store, read_only=True) as tokens:
        namespace = tokens.namespace(open_bundle(encoder).manifest.fingerprint)
        found = namespace.get_many([item.id for item in dataset.items])
    vectors = np.stack([token[0] for token in found if token is not None])
    assert len(vectors) == len(dataset.items)
    return vectors


def baselines(
    dataset: Dataset, queries: Sequence[JudgedQuery], minilm: MiniLM, tokens: NDArray[np.float16]
) -> dict[str, float]:
    """NDCG@10 of what the bundle is compared with; `tokens` [items, hidden] are the item vectors."""
    query_vectors = minilm.encode([query.text for query in queries])
    return {
        "random": random_ndcg(queries),
        "bm25": bm25_ndcg(dataset, queries),
        "minilm": cosine_ndcg(dataset, queries, query_vectors, tokens.astype(np.float32)),
        "checkpoint": mean_ndcg(queries, score_checkpoint(HERE / "checkpoint", dataset, queries, tokens)),
    }


def print_quality(console: Console, dataset: Dataset, quality: Mapping[str, Mapping[str, float]]) -> None:
    """The table of NDCG, a column a split."""
    table = Table(title="ESCO job titles, NDCG@10 over 20 candidates a query", title_justify="left")
    table.add_column("ranker")
    for split, title in JUDGED.items():
        table.add_column(f"{title} ({len(dataset.split(split))} queries)", justify="right")
    for name in quality["test"]:
        table.add_row(name, *(f"{quality[split][name]:.4f}" for split in JUDGED))
    console.print(table)
    console.print(
        f"unseen items: training read none of {len(dataset.held_out)} occupations; every relevant item is one of them"
    )


def print_speed(console: Console, speed: Mapping[str, float]) -> None:
    """The table of rates, and what to do next."""
    table = Table(title="Speed on this machine", title_justify="left")
    table.add_column("items as")
    table.add_column("items/s", justify="right")
    table.add_column("ratio", justify="right")
    for name, value in speed.items():
        table.add_row(name, f"{value:,.0f}", f"{value / speed['full_text']:.1f} x")
    console.print(table)
    console.print(
        f"figures: {OUT / 'report.json'}\n"
        "what to try next:\n"
        f"  .venv/bin/rankport inspect {OUT / 'ranker.bundle'}\n"
        f"  .venv/bin/rankport serve {OUT / 'ranker.bundle'} {OUT / 'encoder.bundle'} --store {OUT / 'tokens.lmdb'}\n"
        "  .venv/bin/rankport score --server localhost:8500 --model esco-ranker "
        "--field query='resistance welder' --keys occ0492 occ1809\n"
        "  .venv/bin/rankport export YOUR_CHECKPOINT --kind ranker --labels yes,no --prompt PROMPT --out your.bundle",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
