"""Requests that a proof of a cross-encoder asks: texts where there is a tokenizer, else token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.checkpoints.own_tokenizer import reads_otherwise
from rankport.exporters.kinds.texts.pairs.frame import PairTokenizer
from rankport.exporters.kinds.texts.pairs.reference import PairIds
from rankport.exporters.kinds.texts.samples import sample_runs, sample_texts
from rankport.exporters.proof.windows import BEYOND_WINDOW, LONGEST
from rankport.protos.errors import ParityError
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.prompt.pairs import PairEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import TokenRuns

_REQUESTS = 4


@dataclass(frozen=True, slots=True)
class SampledTexts:
    """Pairs of one mode: as the runtime makes runs of them, and as the source is given them."""

    mode: str
    runs: TokenRuns
    source: Sequence[PairIds]
    requests: Sequence[int]  # items of each, in order
    texts: Sequence[tuple[str, str]] = ()  # of each pair; none where there is no tokenizer

    @property
    def is_plain(self) -> bool:
        """True of texts within the limit, asked alone and beside others: the other modes are named for what they do."""
        return self.mode in ("pair", "text")

    @property
    def is_across_window(self) -> bool:
        """True of runs that cross a window, asked alone and beside each other too."""
        return self.mode == BEYOND_WINDOW

    def cut(self, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Cuts rows of all pairs into those of each request."""
        return np.split(rows, np.cumsum(self.requests)[:-1])


def sampled_pairs(
    manifest: Manifest, tokenizer: Tokenizer | None, owner: PairTokenizer | None, inputs: Sequence[str]
) -> list[SampledTexts]:
    """Draws pairs: short enough, in the other order, and over the limit.

    Raises ParityError where the bundle makes other ids or token types of a pair than the checkpoint's tokenizer.
    """
    pairs = PairEncoder(manifest, tokenizer)
    if tokenizer is None or owner is None:
        return [_drawn(manifest, pairs, "token_type_ids" in inputs)]
    assert manifest.pair is not None
    texts = sample_texts(tokenizer, manifest.pair.max_tokens)
    # Of each length in turn, so that a request has short and long items.
    short = [
        text for text in texts if len(tokenizer.encode_batch([text])[0]) < manifest.pair.max_tokens // 2 - 4
    ]
    first, items = short[:_REQUESTS], short[_REQUESTS:]
    asked = [("pair", query, items) for query in first]
    asked += [("pair_order", item, first) for item in items[:_REQUESTS]]
    # Beside the longest each pair is long: of thousands of tokens a few will do.
    few = texts if manifest.pair.max_tokens <= LONGEST else texts[5::6]
    asked += [("truncation", texts[0], texts), ("truncation", max(texts, key=len), few)]
    made: dict[str, list[SampledTexts]] = {}
    for mode, query, candidates in asked:
        made.setdefault(mode, []).append(
            _of_texts(manifest, mode, query, candidates, pairs, owner, "token_type_ids" in inputs)
        )
    return [together(parts) for parts in made.values()]


def _of_texts(
    manifest: Manifest,
    mode: str,
    first: str,
    items: Sequence[str],
    pairs: PairEncoder,
    owner: PairTokenizer,
    typed: bool,
) -> SampledTexts:
    assert manifest.pair is not None
    pair = manifest.pair
    runs = pairs.encode(first, list(items), "truncate").runs
    source = []
    for place, item in enumerate(items):
        ids, types = owner.encode(first, item, pair.max_tokens, pair.cut)
        made = runs.part(place, place + 1)
        _require_same(mode, first, item, made, ids, types if typed else None, owner)
        source.append(
            PairIds(np.array(ids, np.int64), np.array(types, np.int64) if typed and types else None)
        )
    return SampledTexts(mode, runs, source, [len(items)], [(first, item) for item in items])


def _require_same(
    mode: str,
    first: str,
    item: str,
    made: TokenRuns,
    ids: list[int],
    types: list[int] | None,
    owner: PairTokenizer,
) -> None:
    """Raises ParityError where the runtime's pair is not the tokenizer's."""
    shown = f"{mode}: the pair {first[:30]!r}, {item[:30]!r}"
    if made.ids.tolist() != ids:
        ours = made.ids.tolist()
        shared = min(len(ours), len(ids))
        place = next((place for place in range(shared) if ours[place] != ids[place]), shared)
        raise ParityError(
            f"{shown} is {len(ours)} tokens in the bundle and {len(ids)} by the checkpoint's tokenizer, from token "
            f"{place} on {ours[place : place + 3]} and {ids[place : place + 3]}: "
            + (
                reads_otherwise(owner.file)
                or "prompt, pair.max_tokens or pair.cut of the bundle are other ones"
            )
        )
    if types is not None and made.seconds is not None:
        ours = [int(place >= made.seconds[0]) for place in range(len(ids))]
        if ours != types:
            raise ParityError(
                f"{shown} has other token types in the bundle than by the checkpoint's tokenizer"
            )


def together(parts: Sequence[SampledTexts]) -> SampledTexts:
    return SampledTexts(
        parts[0].mode,
        TokenRuns.join([part.runs for part in parts]),
        [pair for part in parts for pair in part.source],
        [count for part in parts for count in part.requests],
        [pair for part in parts for pair in part.texts],
    )


def _drawn(manifest: Manifest, pairs: PairEncoder, typed: bool) -> SampledTexts:
    """Draws whole sequences of ids, cut anywhere into prefix and item."""
    assert manifest.pair is not None
    items = sample_runs(manifest.shape.vocab_size, manifest.pair.max_tokens - 3, count=12)
    prefixes = sample_runs(manifest.shape.vocab_size, 3, count=3, seed=1)
    parts = []
    for prefix in prefixes:
        runs = pairs.encode(prefix.tolist(), [item.tolist() for item in items]).runs
        source = []
        for item in items:
            types = np.repeat([0, 1], [len(prefix), len(item)]) if typed else None
            source.append(PairIds(np.concatenate([prefix, item]), types))
        parts.append(SampledTexts("pair", runs, source, [len(items)]))
    return together(parts)
