"""Users of the audit: occupations of ESCO, whose texts are the titles that people call them by.

Two titles of an occupation are as two texts of a user: by one hand, and never the same. Half of a user's titles may be
trained on; the others are those that an auditor has.
"""

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TITLES = Path(__file__).parents[1] / "esco" / "data" / "titles.csv.gz"
Users = Mapping[str, Sequence[str]]
"""Titles by user."""


@dataclass(frozen=True, slots=True)
class AuditSets:
    """Users drawn apart at random, of the same titles' counts."""

    trained: Users  # members' titles to train on
    members: Users  # other titles of theirs
    non_members: Users  # as many titles of users that nothing is trained on
    validation: Users  # users that tell when to stop


def read_users(fewest_titles: int = 8) -> dict[str, list[str]]:
    """Reads occupations with so many titles that belong to no other occupation."""
    with gzip.open(TITLES, "rt", encoding="utf-8", newline="") as lines:
        rows = [(row["item_id"], row["phrase"]) for row in csv.DictReader(lines)]
    owners: dict[str, set[str]] = {}
    for user, title in rows:
        owners.setdefault(title, set()).add(user)
    users: dict[str, list[str]] = {}
    for user, title in rows:
        if len(owners[title]) == 1:
            users.setdefault(user, []).append(title)
    return {user: titles for user, titles in users.items() if len(titles) >= fewest_titles}


def split(users: Users, members: int, validation: int, seed: int = 0) -> AuditSets:
    """Draws members, users to validate with, and takes all others as non-members."""
    random = np.random.default_rng(seed)
    names = random.permutation(sorted(users)).tolist()
    first: dict[str, list[str]] = {}
    second: dict[str, list[str]] = {}
    for name in names:
        titles = random.permutation(list(users[name])).tolist()
        first[name], second[name] = titles[: len(titles) // 2], titles[len(titles) // 2 :]
    ours, checks, others = (
        names[:members],
        names[members : members + validation],
        names[members + validation :],
    )
    return AuditSets(
        trained={name: first[name] for name in ours},
        members={name: second[name] for name in ours},
        non_members={name: second[name] for name in others},
        validation={name: users[name] for name in checks},
    )


def write_users(users: Users, path: Path) -> Path:
    """Writes a CSV file of the columns user and text. Returns its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("user", "text"))
        rows.writerows((user, title) for user, titles in users.items() for title in titles)
    return path
