"""The teacher of the explainer: templates over ESCO's groups, in place of a large model that writes.

An explanation opens with the label and says where the candidate comes from. The explainer learns to write it from the
texts and the label alone; the group is nothing that its prompt says.
"""

from collections.abc import Sequence

import numpy as np

from examples.esco.dataset import DATA_DIR, Dataset, read_rows
from examples.fit.dataset import LEVELS, summary_of

_WHY = {
    "high": "the candidate has done this very work , as one of the {group}",
    "medium": "the candidate has done related work , as one of the {group}",
    "low": "the candidate has done other work , as one of the {group}",
}


def explanation(level: str, group: str) -> str:
    """Writes the explanation of a label, for a candidate of a group of occupations."""
    return f"{level} fit : {_WHY[level].format(group=group.lower())} ."


def label_told(text: str) -> str:
    """Reads the label off an explanation; empty where it tells none."""
    word = text.split()[0].lower() if text.split() else ""
    return word if word in LEVELS else ""


def lessons(dataset: Dataset, most: int = 8, seed: int = 0) -> list[str]:
    """Writes the texts that the explainer is trained on: prompts as explain.toml makes them, with explanations behind.

    Any label may stand in a prompt, so that each candidate of the training split is told of with a drawn one too.
    """
    groups = {row["item_id"]: row["isco_major"] for row in read_rows(DATA_DIR / "items.csv.gz")}
    items = {item.id: item for item in dataset.items}
    rng, texts = np.random.default_rng(seed), list[str]()
    for query in dataset.split("train"):
        for place in rng.permutation(len(query.item_ids))[:most].tolist():
            name = query.item_ids[place]
            level = LEVELS[query.gains[place]] if rng.random() < 0.5 else LEVELS[int(rng.integers(3))]
            texts.append(_prompted(query.text, summary_of(items[name]), level, groups[name]))
    return texts


def groups_of(dataset: Dataset) -> Sequence[str]:
    """Names the groups of occupations, once each."""
    return sorted({row["isco_major"].lower() for row in read_rows(DATA_DIR / "items.csv.gz")})


def _prompted(job: str, candidate: str, level: str, group: str) -> str:
    return f"job : {job} . candidate : {candidate} . fit : {level} . why : {explanation(level, group)}"
