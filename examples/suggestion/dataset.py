"""Pairs of ESCO: an alternative title and the preferred label of its occupation.

Owns the split: no word set of a test title is read in training, whatever its order or plural; its label may be.
"""

from dataclasses import dataclass

from examples.esco.dataset import DATA_DIR, fold, read_rows, variant_key

_TEST_EVERY = 24


@dataclass(frozen=True, slots=True)
class TitlePairs:
    """Titles as they are written and the labels that they stand for, parallel."""

    titles: list[str]
    labels: list[str]


def title_pairs() -> tuple[TitlePairs, TitlePairs]:
    """Reads the pairs to train on, and those to test."""
    names = {row["item_id"]: fold(row["title"]) for row in read_rows(DATA_DIR / "items.csv.gz")}
    owned: dict[str, list[str]] = {}
    for row in read_rows(DATA_DIR / "titles.csv.gz"):
        owned.setdefault(fold(row["phrase"]), []).append(names[row["item_id"]])
    single = [title for title, labels in owned.items() if len(set(labels)) == 1 and title != labels[0]]
    test = sorted(single)[::_TEST_EVERY]
    unread = {variant_key(title) for title in test}
    train = [
        (title, label)
        for title, labels in owned.items()
        for label in dict.fromkeys(labels)
        if title != label and variant_key(title) not in unread
    ]
    return _pairs(train), _pairs([(title, owned[title][0]) for title in test])


def _pairs(rows: list[tuple[str, str]]) -> TitlePairs:
    titles, labels = zip(*rows, strict=True)
    return TitlePairs(list(titles), list(labels))
