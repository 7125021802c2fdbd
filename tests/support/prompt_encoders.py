"""Prompt encoders of changed sample rankers, and what they make of a request, item by item."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers

from rankport.protos.types import Truncation
from rankport.runtime.prompt.encoded import EncodedPrefix
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import TokenRun
from support.bundle_samples import ranker_draft, tokenizer_json

# Token ids of the sample tokenizer.
CLS, SEP, QUERY, COLON, RED, GREEN, BLUE, SHOES = 1, 2, 4, 5, 6, 7, 8, 9


def made(tokenized: bool = True, **changes: object) -> PromptEncoder:
    """Builds the encoder of a changed sample ranker."""
    inner = tokenizers.Tokenizer.from_str(tokenizer_json().decode())
    return PromptEncoder(ranker_draft(**changes), Tokenizer(inner) if tokenized else None)


@dataclass(frozen=True)
class Encoded:
    """Item by itself, as a prefix is."""

    run: TokenRun
    truncated: bool


def encoded(
    encoder: PromptEncoder,
    items: Any,
    truncation: Truncation = "error",
    *,
    behind: EncodedPrefix | None = None,
) -> list[Encoded]:
    """Encodes each item of a request by itself."""
    result = encoder.encode_items(items, truncation, behind=behind)
    assert result.places.tolist() == list(range(len(result.runs)))
    cut = set(result.truncated.tolist())
    return [Encoded(run, place in cut) for place, run in enumerate(result.runs)]


def ids(run: EncodedPrefix | Encoded) -> list[int]:
    """Lists the token ids of a prefix or an item."""
    assert run.run.ids.dtype == np.int64
    return [int(token) for token in run.run.ids]
