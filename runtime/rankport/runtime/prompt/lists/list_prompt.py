"""`ListPrompt`: the items of a request as blocks, each with the prefix in one prompt.

Owns which items share a block, and the tokens of each. Values are `list_values`' business, their order in a prompt is
`list_template`'s.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import ItemColumns, offsets_of
from rankport.protos.errors import BundleError, InvalidRequest, LimitExceeded
from rankport.protos.types import Prefix, Truncation
from rankport.protos.wording import counted
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.prompt.checks import refuse_unknown
from rankport.runtime.prompt.encoded import NO_KEYED_TOKENS, EncodedItems, KeyedTokens
from rankport.runtime.prompt.encoder import check_truncation
from rankport.runtime.prompt.lists.list_template import Ids, ListParts, Part
from rankport.runtime.prompt.lists.list_values import ItemValues, ListValues
from rankport.runtime.prompt.markers import Markers
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import TokenRuns


@dataclass(frozen=True, slots=True)
class EncodedLists:
    """A request's blocks, ready for the engine."""

    # Whose runs are the blocks, behind them each item's own where items are read alone; places are the items'.
    items: EncodedItems
    blocks: NDArray[np.int64]  # [blocks + 1] offsets of the items; one that is read alone may be in none
    prefix_truncated: bool

    @property
    def runs(self) -> TokenRuns:
        """Tokens of the blocks, and of items alone. [blocks, or 1 + items]"""
        return self.items.runs


class ListPrompt:
    """Immutable once built: safe to use from several threads at once."""

    def __init__(self, manifest: ManifestDraft, tokenizer: Tokenizer) -> None:
        """Looks the template's tokens up. Raises `BundleError` if prompt, tokenizer, model and limits do not fit."""
        assert manifest.lists is not None
        self._lists = manifest.lists
        self._markers = Markers.of(manifest.lists)
        self._values = ListValues(manifest, tokenizer, self._markers)
        self._parts = ListParts.of(manifest.lists, tokenizer, manifest.shape.vocab_size)
        self._tokenizer, self._vocab_size = tokenizer, manifest.shape.vocab_size
        self._require_room(manifest.prompt.fields)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """Makes the prompt of an opened bundle. Raises `BundleError` as the constructor."""
        name = bundle.manifest.tokenizer
        assert name is not None, "a rule of the kind"
        return cls(bundle.manifest, Tokenizer.from_file(bundle.file(name)))

    def encode(
        self,
        prefix: Prefix,
        items: ItemColumns,
        truncation: Truncation = "error",
        keyed: KeyedTokens = NO_KEYED_TOKENS,
        *,
        skip_empty: bool = False,
    ) -> EncodedLists:
        """Encodes a request. Blocks are filled in its order, each up to the most items and tokens of a block.

        Raises:
            InvalidRequest: prefix or an item is malformed, or holds a marker; the message has the item's index.
            LimitExceeded: a text is too long and `truncation` is "error"; an item alone exceeds a block; or there are
                more items than a block holds, and the bundle joins none. Where items are read alone, the prompt holds
                the first of them; where they do not fit it, fewer if `truncation` is not "error".
        """
        check_truncation(truncation)
        fields = self._values.fields(prefix, truncation)
        values = self._values.items(items, truncation, keyed, skip_empty=skip_empty)
        if self._lists.alone:
            blocks, ids = self._first_and_alone(fields.parts, values, truncation)
        else:
            blocks, ids = self._blocks(fields.parts, values)
        if len(blocks) > 2 and self._lists.join == "refuse":
            raise LimitExceeded(
                f"{counted(len(values.parts), 'item')} fill {len(blocks) - 1} blocks, and the model ranks one "
                "(of up to "
                f"{counted(self._lists.max_items, 'item')} and {counted(self._lists.max_tokens, 'token')}): give "
                "fewer or shorter ones"
            )
        rows = () if values.embeddings is None else (values.embeddings,)
        joined = np.concatenate(ids) if ids else np.empty(0, np.int64)
        runs = TokenRuns.of_lengths(joined, [len(block) for block in ids], rows)
        encoded = EncodedItems(runs, values.places, values.truncated, values.empty)
        return EncodedLists(encoded, blocks, fields.truncated)

    def _blocks(self, fields: Mapping[str, Part], values: ItemValues) -> tuple[NDArray[np.int64], list[Ids]]:
        """Chooses blocks of items and tokenizes them; again, by what items cost, where one has too many tokens."""
        lists, count = self._lists, len(values.parts)
        blocks = np.array([*range(0, count, lists.max_items), count] if count else [0], np.int64)
        room = lists.max_tokens
        while True:
            ids = self._tokenized(fields, values, blocks)
            over = np.array([len(block) for block in ids], np.int64) - lists.max_tokens
            if not len(over) or over.max() <= 0:
                return blocks, ids
            self._refuse_alone(values, blocks, over)
            frame = len(self._ids_of([self._parts.block(fields, [])])[0])
            costs = [cost for block in ids for cost in self._costs(block, frame)]
            blocks = _packed(costs, lists.max_items, room - frame)
            room -= int(over.max())  # for the next try, where texts have more tokens in other blocks

    def _first_and_alone(
        self, fields: Mapping[str, Part], values: ItemValues, truncation: Truncation
    ) -> tuple[NDArray[np.int64], list[Ids]]:
        """Tokenizes one prompt of the first items, fewer where a cut is asked for, and each item by itself."""
        if not values.parts:
            return np.array([0], np.int64), []
        prompt, held, most = np.empty(0, np.int64), 0, min(len(values.parts), self._lists.max_items)
        count = most
        while held < most:  # halves what is left to try, where the most are too long
            blocks = np.array([0, count], np.int64)
            (tried,) = self._tokenized(fields, values, blocks)
            over = len(tried) - self._lists.max_tokens
            self._refuse_alone(values, blocks, np.array([over]))
            if over > 0 and truncation == "error":
                raise LimitExceeded(
                    f"the prompt of the first {counted(count, 'item')} has {counted(len(tried), 'token')}, it holds "
                    f"{self._lists.max_tokens} (lists.max_tokens): shorten items, or allow a cut (truncation "
                    '"truncate") to have fewer of them in it'
                )
            prompt, held, most = (tried, count, most) if over <= 0 else (prompt, held, count - 1)
            count = (held + most + 1) // 2
        alone = self._ids_of([self._parts.alone(part) for part in values.parts])
        overs = np.array([len(ids) for ids in alone], np.int64) - self._lists.max_tokens
        self._refuse_alone(values, np.arange(len(alone) + 1), overs)
        return np.array([0, held], np.int64), [prompt, *alone]

    def _tokenized(
        self, fields: Mapping[str, Part], values: ItemValues, blocks: NDArray[np.int64]
    ) -> list[Ids]:
        return self._ids_of(
            [
                self._parts.block(fields, values.parts[start:stop])
                for start, stop in itertools.pairwise(blocks.tolist())
            ]
        )

    def _ids_of(self, blocks: Sequence[Sequence[Part]]) -> list[Ids]:
        """Tokenizes the texts of all blocks in one call."""
        texts = [part for block in blocks for part in block if isinstance(part, str)]
        runs = self._tokenizer.encode_ragged(texts)
        refuse_unknown(runs, self._vocab_size, lambda _: "prefix or items", self._tokenizer.decode)
        self._markers.refuse(runs.ids, "prefix or items")
        rest = iter(range(len(texts)))
        nothing = np.empty(0, np.int64)  # all of a prompt whose fields are empty
        return [
            np.concatenate(
                [nothing, *(runs.run(next(rest)) if isinstance(part, str) else part for part in block)]
            )
            for block in blocks
        ]

    def _costs(self, block: Ids, frame: int) -> list[int]:
        """Counts what each item adds to a block, whose prompt has `frame` tokens without them."""
        assert self._lists.item_marker is not None, "items are read in a block"
        ends = np.flatnonzero(block == self._lists.item_marker.id) + 1
        head = frame - (len(block) - ends[-1])
        costs: list[int] = np.diff(ends, prepend=max(head, 0)).tolist()
        return costs

    def _require_room(self, names: Sequence[str]) -> None:
        """Raises BundleError where the prompt's own tokens hold a marker, or leave no room to an item."""
        try:
            tokens = len(self._ids_of([self._parts.block(dict.fromkeys(names, ""), [])])[0])
        except InvalidRequest as error:
            raise BundleError(f"lists: {error}") from None
        if tokens >= self._lists.max_tokens:
            raise BundleError(
                f"lists.max_tokens: {self._lists.max_tokens} does not hold the prompt's own "
                f"{counted(tokens, 'token')} and an item"
            )

    def _refuse_alone(self, values: ItemValues, blocks: NDArray[np.int64], over: NDArray[np.int64]) -> None:
        """Raises `LimitExceeded` for an item that is too long for a block of its own."""
        alone = np.flatnonzero((np.diff(blocks) == 1) & (over > 0))
        if len(alone):
            tokens = self._lists.max_tokens + int(over[alone[0]])
            raise LimitExceeded(
                f"item {values.places[blocks[alone[0]]]}: {counted(tokens, 'token')} with the prompt around it, "
                "a block holds "
                f"{self._lists.max_tokens} (lists.max_tokens): shorten item or prefix"
            )


def _packed(costs: Sequence[int], most: int, room: int) -> NDArray[np.int64]:
    """Fills blocks one after another: up to `most` items, and tokens as there is room for, at least one item each."""
    counts: list[int] = []
    used = 0
    for cost in costs:
        if not counts or counts[-1] == most or used + cost > room:
            counts.append(0)
            used = 0
        counts[-1] += 1
        used += cost
    return offsets_of(np.array(counts, np.int64))
