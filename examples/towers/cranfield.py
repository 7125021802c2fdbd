"""The Cranfield collection: abstracts, queries and graded judgments, split by query."""

import csv
import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.proof.metrics import ndcg

DATA = Path(__file__).parent / "data"
TRAIN_QUERIES = 105
CUTOFF = 10


@dataclass(frozen=True, slots=True)
class Collection:
    """Texts and judgments. A document's key is its place."""

    docs: tuple[str, ...]  # title and text
    titles: tuple[str, ...]
    queries: tuple[str, ...]
    gains: NDArray[np.float32]  # [queries, docs] 0 to 4
    train: NDArray[np.int64]  # places of queries
    test: NDArray[np.int64]

    @classmethod
    def load(cls, data: Path = DATA, seed: int = 0) -> "Collection":
        """Reads the files; queries are split at random, `TRAIN_QUERIES` of them to train on."""
        with gzip.open(data / "docs.jsonl.gz", "rt", encoding="utf-8") as file:
            docs = [doc for doc in map(json.loads, file) if doc["title"] or doc["text"]]  # two have neither
        queries, judged = _rows(data / "queries.csv.gz"), _rows(data / "qrels.csv.gz")
        doc_place = {str(doc["doc_id"]): place for place, doc in enumerate(docs)}
        query_place = {row["query_id"]: place for place, row in enumerate(queries)}
        gains = np.zeros((len(queries), len(docs)), np.float32)
        for row in judged:
            if row["doc_id"] in doc_place:
                gains[query_place[row["query_id"]], doc_place[row["doc_id"]]] = float(row["gain"])
        order = np.random.default_rng(seed).permutation(len(queries))
        return cls(
            docs=tuple(f"{doc['title']} {doc['text']}".strip() for doc in docs),
            titles=tuple(doc["title"] for doc in docs),
            queries=tuple(row["query"] for row in queries),
            gains=gains,
            train=np.sort(order[:TRAIN_QUERIES]),
            test=np.sort(order[TRAIN_QUERIES:]),
        )

    def ndcg(self, scores: Sequence[NDArray[np.floating]], queries: NDArray[np.int64]) -> float:
        """Averages NDCG@10 over queries, each ranking all documents by `scores` [docs]."""
        gains = self.gains[queries]
        return float(np.mean([ndcg(row, own, CUTOFF) for row, own in zip(scores, gains, strict=True)]))


def _rows(file: Path) -> list[dict[str, str]]:
    text = gzip.decompress(file.read_bytes()).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text)))
