"""`SparseForm`: what a folder of a learned sparse encoder says beside the model whose logits it pools."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TokenPooling = Literal["max", "sum"]
Activation = Literal["relu", "log1p_relu"]
SparseSimilarity = Literal["dot", "cosine"]


@dataclass(frozen=True, slots=True)
class SparseForm:
    """Prompts, lengths, and the way from a masked LM's logits to a weight for each token of the vocabulary.

    Lengths have special tokens in them, and are None where only positions end a text.
    """

    where: str  # file that says the lengths, for messages
    query_prompt: str  # before a query's text
    item_prompt: str
    query_tokens: int | None
    item_tokens: int | None
    pooling: TokenPooling = "max"
    activation: Activation = "relu"
    stated_width: int | None = None  # of the vocabulary, where the pooling says it
    most_active: int | None = None  # weights that are kept of a text, the largest ones; None: all
    similarity: SparseSimilarity = "dot"
    static: Path | None = None  # folder of a query's weights by token; None: queries are read as items are


SPARSE_FILES = ("router_config.json", "idf.json")
"""Files that say it, beside those of sentence-transformers."""
