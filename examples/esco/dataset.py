"""The esco_jobs data as frozen dataclasses: items, judged requests by split, training phrases.

Owns reading and the rule that keeps evaluation phrases out of training; data/SOURCE.md says where the data
come from. Standard library only.
"""

import csv
import gzip
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DATA_DIR = Path(__file__).parent / "data"
SPLITS = ("train", "valid", "test")
EVALUATION_SPLITS = ("valid", "test")
GAINS = {"Exact": 2, "Partial": 1, "Irrelevant": 0}


@dataclass(frozen=True, slots=True)
class Item:
    """One occupation."""

    id: str
    title: str
    description: str
    isco: str  # 4 digits: unit group; its first digit is the major group

    @property
    def text(self) -> str:
        """What the item encoder reads."""
        return f"{self.title}. {self.description}"


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """One job-title query with its graded candidates."""

    id: str
    text: str
    split: str
    item_ids: tuple[str, ...]
    gains: tuple[int, ...]  # [items] 2 exact, 1 partial, 0 irrelevant


@dataclass(frozen=True, slots=True)
class Phrase:
    """One title and every occupation it names."""

    text: str
    item_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Dataset:
    """All of esco_jobs."""

    items: tuple[Item, ...]
    queries: tuple[JudgedQuery, ...]
    phrases: tuple[Phrase, ...]  # fit for training: none is a variant of a query of an evaluation split

    @classmethod
    def load(cls, path: Path = DATA_DIR) -> "Dataset":
        """Reads the four files of `path`."""
        queries = _queries(path)
        held_out = frozenset(variant_key(query.text) for query in queries if query.split in EVALUATION_SPLITS)
        return cls(_items(path), queries, _phrases(path, held_out))

    def split(self, name: str) -> tuple[JudgedQuery, ...]:
        """The queries of one split, in file order. ValueError for an unknown one."""
        if name not in SPLITS:
            raise ValueError(f"split {name!r} is none of {', '.join(SPLITS)}")
        return tuple(query for query in self.queries if query.split == name)

    def rows(self) -> dict[str, int]:
        """Position of each item in `items`, by id."""
        return {item.id: row for row, item in enumerate(self.items)}


def fold(text: str) -> str:
    """The form in which two phrases are one."""
    return " ".join(text.casefold().split())


def variant_key(text: str) -> frozenset[str]:
    """Equal for two phrases of the same words, whatever their case, order, hyphens or plural s."""
    return frozenset(word.rstrip("s") for word in re.findall(r"\w+", text.casefold()))


def _items(path: Path) -> tuple[Item, ...]:
    return tuple(
        Item(row["item_id"], row["title"], row["description"], row["isco"])
        for row in _read(path / "items.csv.gz")
    )


def _queries(path: Path) -> tuple[JudgedQuery, ...]:
    judged: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in _read(path / "labels.csv.gz"):
        judged[row["query_id"]].append((row["item_id"], GAINS[row["label"]]))
    return tuple(
        JudgedQuery(row["query_id"], row["query"], row["split"], *zip(*judged[row["query_id"]], strict=True))
        for row in _read(path / "queries.csv.gz")
    )


def _phrases(path: Path, held_out: frozenset[frozenset[str]]) -> tuple[Phrase, ...]:
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for row in _read(path / "titles.csv.gz"):
        owners[fold(row["phrase"])].add(row["item_id"])
    return tuple(
        Phrase(text, frozenset(ids)) for text, ids in owners.items() if variant_key(text) not in held_out
    )


def _read(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
