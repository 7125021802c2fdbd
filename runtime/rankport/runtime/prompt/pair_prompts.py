"""`PairPrompt`: prefix and item read together as one prompt, each within a limit of its own (`pair.cut` is `each`).

Owns how the two parts become one run. What a prefix and items are as tokens, `encoder` knows.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import ItemColumns
from rankport.protos.types import Item, Prefix, Truncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.prompt.encoded import EncodedItems
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.pairs import PairEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import TokenRuns, places_within


class PairPrompt:
    """Immutable once built: safe to use from several threads at once."""

    def __init__(self, manifest: ManifestDraft, tokenizer: Tokenizer | None) -> None:
        """Tokenizes the prompt's literals. Raises `BundleError` if they do not fit tokenizer, model or limits."""
        self._prompt = PromptEncoder(manifest, tokenizer)

    def encode(
        self,
        prefix: Prefix,
        items: Iterable[Item] | ItemColumns,
        truncation: Truncation = "error",
        *,
        skip_empty: bool = False,
    ) -> EncodedItems:
        """Encodes each pair of the prefix and an item as one run, whose second text is the item.

        An empty item is as `PromptEncoder.encode_items` has it.

        Raises:
            InvalidRequest: prefix or an item is malformed or empty; the message has the item's index.
            LimitExceeded: prefix or an item is too long and `truncation` is "error".
        """
        first = self._prompt.encode_prefix(prefix, truncation)
        encoded = self._prompt.encode_items(items, truncation, skip_empty=skip_empty)
        truncated = encoded.places if first.truncated else encoded.truncated
        return replace(encoded, runs=_behind(first.run.ids, encoded.runs), truncated=truncated)


PairReader = PairEncoder | PairPrompt
"""Whatever makes runs of a prefix and items that are read together."""


def pair_reader(manifest: ManifestDraft, tokenizer: Tokenizer | None) -> PairReader:
    """Makes the reader of a manifest with a `pair`. Raises `BundleError` if prompt, tokenizer and limits do not fit."""
    assert manifest.pair is not None
    return (PairPrompt if manifest.pair.cut == "each" else PairEncoder)(manifest, tokenizer)


def pair_reader_of(bundle: Bundle) -> PairReader:
    """Makes the reader of an opened bundle. Raises as `pair_reader`."""
    name = bundle.manifest.tokenizer
    return pair_reader(bundle.manifest, None if name is None else Tokenizer.from_file(bundle.file(name)))


def _behind(first: NDArray[np.int64], items: TokenRuns) -> TokenRuns:
    """Puts every item behind the first text."""
    count, before = len(items), len(first)
    lengths = items.lengths
    runs = TokenRuns.of_lengths(np.empty(count * before + len(items.ids), np.int64), lengths + before)
    starts = runs.offsets[:-1]
    runs.ids[starts[:, None] + np.arange(before)] = first
    runs.ids[np.repeat(starts + before, lengths) + places_within(lengths)] = items.ids
    return replace(runs, seconds=np.full(count, before, np.int64))
