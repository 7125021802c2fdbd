"""The esco_jobs data as frozen dataclasses: items, judged requests by split, training phrases.

Owns reading and the rule that keeps evaluation phrases and held-out items out of training; data/SOURCE.md says where
the data come from. Standard library only.
"""

import csv
import gzip
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from examples.esco.holdout import MIXED, UNSEEN_SPLITS, choose_held_out, split_of

DATA_DIR = Path(__file__).parent / "data"
QUERY_SPLITS = ("valid", "test")  # unseen queries whose relevant items training has seen
EVALUATION_SPLITS = (*QUERY_SPLITS, *UNSEEN_SPLITS)
SPLITS = ("train", *EVALUATION_SPLITS, MIXED)
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
    phrases: tuple[Phrase, ...]  # fit for training: none names a held-out item or varies an evaluation query
    held_out: frozenset[str]  # ids of the items that training never reads
    unread: frozenset[frozenset[str]] = (
        frozenset()
    )  # variant keys of their titles and of the evaluation queries

    @classmethod
    def load(cls, path: Path = DATA_DIR) -> "Dataset":
        """Reads the four files of `path`."""
        items, judged = _items(path), _queries(path)
        isco = {item.id: item.isco for item in items}
        units = [_relevant_units(query, isco) for query in judged]
        groups = choose_held_out(
            [of for of, query in zip(units, judged, strict=True) if query.split == "train"],
            [of for of, query in zip(units, judged, strict=True) if query.split != "train"],
        )
        queries = tuple(
            replace(query, split=split_of(of, groups)) if query.split == "train" else query
            for of, query in zip(units, judged, strict=True)
        )
        held_out = frozenset(item.id for item in items if item.isco in groups)
        phrases = _phrases(path)
        unread = [phrase.text for phrase in phrases if phrase.item_ids & held_out]
        unread += [query.text for query in queries if query.split in EVALUATION_SPLITS]
        keys = frozenset(variant_key(text) for text in unread)
        return cls(items, queries, _training_phrases(phrases, unread, keys), held_out, keys)

    def split(self, name: str) -> tuple[JudgedQuery, ...]:
        """The queries of one split, in file order. ValueError for an unknown one."""
        if name not in SPLITS:
            raise ValueError(f"split {name!r} is none of {', '.join(SPLITS)}")
        return tuple(query for query in self.queries if query.split == name)

    def training_rows(self) -> tuple[int, ...]:
        """Positions in `items` of those that training may read."""
        return tuple(row for row, item in enumerate(self.items) if item.id not in self.held_out)

    def rows(self) -> dict[str, int]:
        """Position of each item in `items`, by id."""
        return {item.id: row for row, item in enumerate(self.items)}


def fold(text: str) -> str:
    """The form in which two phrases are one."""
    return " ".join(text.casefold().split())


def variant_key(text: str) -> frozenset[str]:
    """Equal for two phrases of the same words, whatever their case, order, hyphens or plural s."""
    return frozenset(word.rstrip("s") for word in re.findall(r"\w+", text.casefold()))


def letters(text: str) -> str:
    """Equal for two phrases that differ in case, spaces and punctuation only: "power line", "Powerline"."""
    return "".join(re.findall(r"\w", text.casefold()))


def _items(path: Path) -> tuple[Item, ...]:
    return tuple(
        Item(row["item_id"], row["title"], row["description"], row["isco"])
        for row in read_rows(path / "items.csv.gz")
    )


def _queries(path: Path) -> tuple[JudgedQuery, ...]:
    judged: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in read_rows(path / "labels.csv.gz"):
        judged[row["query_id"]].append((row["item_id"], GAINS[row["label"]]))
    return tuple(
        JudgedQuery(row["query_id"], row["query"], row["split"], *zip(*judged[row["query_id"]], strict=True))
        for row in read_rows(path / "queries.csv.gz")
    )


def _relevant_units(query: JudgedQuery, isco: Mapping[str, str]) -> frozenset[str]:
    return frozenset(isco[id] for id, gain in zip(query.item_ids, query.gains, strict=True) if gain > 0)


def _phrases(path: Path) -> list[Phrase]:
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for row in read_rows(path / "titles.csv.gz"):
        owners[fold(row["phrase"])].add(row["item_id"])
    return [Phrase(text, frozenset(ids)) for text, ids in owners.items()]


def _training_phrases(
    phrases: Sequence[Phrase], unread: Sequence[str], keys: frozenset[frozenset[str]]
) -> tuple[Phrase, ...]:
    """Selects those that vary no unread text, by its variant key or its letters."""
    spellings = {letters(text) for text in unread}
    return tuple(
        phrase
        for phrase in phrases
        if variant_key(phrase.text) not in keys and letters(phrase.text) not in spellings
    )


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Reads the rows of a file of the data, a column by its name."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
