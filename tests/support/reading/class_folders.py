"""Checkpoints of classifiers: of a class with its own head, and of pooled states that Dense layers take to labels."""

from pathlib import Path
from typing import Any

from support import sentence_folders
from support.reading.pair_encoders import pair_classifier

LEVELS = ("low", "medium", "high")
RELU, IDENTITY = "torch.nn.modules.activation.ReLU", "torch.nn.modules.linear.Identity"


def level_classifier(folder: Path, **overrides: Any) -> Path:
    """A one-layer BERT with a head of three levels."""
    names = dict(enumerate(LEVELS))
    return pair_classifier(folder, **{"num_labels": 3, "id2label": names, **overrides})


def pooled_levels(base: Path, folder: Path, pooling: str = "mean", **settings: Any) -> Path:
    """A folder of sentence-transformers: pooling, an MLP and three levels."""
    dense = (("Dense", "2_Dense"), ("Dense", "3_Dense"))
    made = sentence_folders.pooled(base, folder, pooling, *dense)
    sentence_folders.add_dense(made, "2_Dense", sentence_folders.WIDTH, 16, activation_function=RELU)
    sentence_folders.add_dense(made, "3_Dense", 16, 3, activation_function=IDENTITY)
    given = {"labels": list(LEVELS), **settings}
    sentence_folders.write(made, "config_sentence_transformers.json", given)
    return made
