"""`LateForm`: what a folder of late interaction says beside the body of its model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rankport.exporters.checkpoints.sentence_transformers.dense import DenseWeights
from rankport.runtime.bundle.manifest import DenseLayer

Similarity = Literal["maxsim", "meanmaxsim"]


@dataclass(frozen=True, slots=True)
class Expansion:
    """Filling of a short query by a token, whose states are vectors of the query too."""

    length: int  # tokens of a query, up to which it is filled
    attended: bool  # whether the query's own tokens see those
    token: str | None = None  # None: the mask token, of a tokenizer without one that at the end


@dataclass(frozen=True, slots=True)
class LateForm:
    """Prompts, lengths, tokens that count, and the way from hidden states to vectors.

    `inserted` prompts are tokens by name, put behind the first special token; others are part of the text. Lengths have
    special tokens and expansion in them, and are None where only positions end a text.
    """

    where: str  # file that says the lengths, for messages
    query_prompt: str  # before a query's text
    item_prompt: str
    inserted: bool
    query_tokens: int | None
    item_tokens: int | None
    expansion: Expansion | None
    skipped: tuple[str, ...]  # tokens of which an item has no vector
    skips_queries: bool  # and a query neither
    skips_unknown: bool  # a word of `skipped` that is no token stands for the unknown token, as PyLate has it
    dense: tuple[tuple[DenseLayer, DenseWeights], ...]
    normalize: bool
    similarity: Similarity


LATE_FILES = ("artifact.metadata",)
"""Files that say it, beside those of sentence-transformers."""


def metadata_file(path: Path) -> Path:
    """Names the file of settings of Stanford's ColBERT."""
    return path / LATE_FILES[0]
