"""Requests that a proof of a list ranker asks: lists of one item, a block, several blocks, and every form of items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rankport.exporters.kinds.texts.samples import overlong_text, sample_runs, sample_texts
from rankport.exporters.proof.windows import BEYOND_WINDOW, LONGEST_WINDOW, tokens_across
from rankport.protos.columns import ItemColumns
from rankport.protos.errors import LimitExceeded
from rankport.protos.types import Item, Truncation
from rankport.runtime.bundle.manifest import Embedding, Manifest
from rankport.runtime.prompt.lists.list_prompt import ListPrompt
from rankport.runtime.prompt.markers import Markers
from rankport.runtime.prompt.tokenizer import Tokenizer

_SHORT_TOKENS, _BLOCK = 40, 12
_REQUESTS = 3


@dataclass(frozen=True, slots=True)
class ListSample:
    """One request of a mode."""

    mode: str
    fields: Mapping[str, str]
    items: Sequence[Item]
    truncation: Truncation = "error"


def draw_samples(manifest: Manifest, tokenizer: Tokenizer) -> list[ListSample]:
    """Draws requests that fit a bundle."""
    lists = manifest.lists
    assert lists is not None
    drawn = _Drawn(manifest, tokenizer)
    samples = [drawn.sample("one_item", place, drawn.texts[place : place + 1]) for place in range(_REQUESTS)]
    blocks = [drawn.block(place) for place in range(_REQUESTS)]
    samples += [drawn.sample("one_block", place, block) for place, block in enumerate(blocks)]
    order = np.random.default_rng(3).permutation(len(blocks[0]))
    samples.append(drawn.sample("permuted", 0, [blocks[0][place] for place in order]))
    if lists.join != "refuse":
        samples.append(drawn.sample("several_blocks", 1, drawn.several(lists.max_items)))
    samples += drawn.awkward(blocks[0])
    if lists.join == "first":  # the first fill the prompt, whatever their tokens
        return [replace(sample, truncation="truncate") for sample in samples]
    if lists.join != "refuse":
        return samples
    prompt = ListPrompt(manifest, tokenizer)
    return [_held(sample, prompt) for sample in samples]


def _held(sample: ListSample, prompt: ListPrompt) -> ListSample:
    """Leaves out the last items of a list as long as it does not fit the one block that the model ranks."""
    for count in range(len(sample.items), 1, -1):
        try:
            prompt.encode(sample.fields, ItemColumns.of(sample.items[:count]), sample.truncation)
        except LimitExceeded:
            continue
        return replace(sample, items=sample.items[:count])
    return replace(sample, items=sample.items[:1])


def across_window(manifest: Manifest, tokenizer: Tokenizer, window: int) -> ListSample | None:
    """Draws a list of token ids whose one block crosses a window; None where no block of the limits does."""
    lists, limits = manifest.lists, manifest.limits
    assert lists is not None
    prompt, rng = ListPrompt(manifest, tokenizer), np.random.default_rng(window)
    others = np.setdiff1d(np.arange(manifest.shape.vocab_size), lists.marker_ids)
    fields = dict.fromkeys(manifest.prompt.fields, "")
    for count in range(1, lists.max_items + 1):
        shortest = prompt.encode(fields, ItemColumns.of([others[:1]] * count))
        if len(shortest.blocks) > 2:
            break
        around = int(shortest.runs.lengths[0]) - count
        room = min(tokens_across(window, lists.max_tokens) - around, count * limits.max_item_tokens)
        if room >= count and around + room > window:
            lengths = [len(part) for part in np.array_split(np.arange(room), count)]
            return ListSample(BEYOND_WINDOW, fields, [rng.choice(others, length) for length in lengths])
    return None


class _Drawn:
    """Texts of a tokenizer's vocabulary, and lists of them."""

    def __init__(self, manifest: Manifest, tokenizer: Tokenizer) -> None:
        assert manifest.lists is not None
        self._manifest, self._lists = manifest, manifest.lists
        self._limits = manifest.limits
        short = min(self._limits.max_item_tokens, _SHORT_TOKENS)
        markers = Markers.of(manifest.lists)
        drawn = sample_texts(tokenizer, short)
        clean = [text for text in drawn if markers.cleaned(text) == text]
        lengths = tokenizer.encode_ragged(clean).lengths
        self.texts = [text for text, length in zip(clean, lengths, strict=True) if length <= short]
        most = self._limits.max_prefix_tokens // max(1, len(manifest.prompt.fields))
        queries = [text for text, length in zip(clean, lengths, strict=True) if length <= min(short, most)]
        self._queries = queries or [""]
        self._markers = markers

    def sample(
        self, mode: str, place: int, items: Sequence[Item], truncation: Truncation = "error"
    ) -> ListSample:
        query = self._queries[place % len(self._queries)]
        return ListSample(mode, dict.fromkeys(self._manifest.prompt.fields, query), items, truncation)

    def block(self, place: int) -> list[str]:
        """Takes as many texts as a small block has, another first one each time."""
        count = min(self._lists.max_items, _BLOCK)
        return [self.texts[(place * 5 + index) % len(self.texts)] for index in range(count)]

    def several(self, most: int) -> list[str]:
        """Takes more of the shortest texts than a block holds."""
        count = 2 * most + 1 if most <= _BLOCK else most + 3
        shortest = sorted(self.texts, key=len)[:8]
        return [shortest[index % len(shortest)] for index in range(count)]

    def awkward(self, block: Sequence[str]) -> Iterator[ListSample]:
        """Yields a long item that is cut, markers in texts, ids and embedding tokens among texts.

        No item is cut at limits over which attention may fit no machine.
        """
        few = list(block[: max(1, self._lists.max_items - 1)])
        if self._limits.max_prefix_tokens + self._limits.max_item_tokens <= LONGEST_WINDOW:
            yield self._cut(few)
        if self._lists.marker_ids:
            yield self._marked(few)
        runs = sample_runs(self._manifest.shape.vocab_size, min(self._limits.max_item_tokens, 24), count=4)
        own = np.array(self._lists.marker_ids, np.int64)
        ids = [run[~np.isin(run, own)] for run in runs]
        yield self._mixed("token_ids", 1, few, [run for run in ids if len(run)])
        if self._manifest.embedding is not None:
            vectors = _embeddings(self._manifest.embedding)
            yield self._mixed("embeddings", 2, few, vectors)
            if self._lists.join in ("independent", "mean-query"):
                yield self.sample("embeddings", 0, self._alternating(vectors))

    def _alternating(self, vectors: Sequence[Item]) -> list[Item]:
        """Puts an item of embedding tokens behind every text of several blocks, which share a pass."""
        texts = self.several(self._lists.max_items)
        return [vectors[place % len(vectors)] if place % 2 else text for place, text in enumerate(texts)]

    def _cut(self, few: Sequence[str]) -> ListSample:
        """Puts an item beyond its limit among others, behind a query beyond its own."""
        long = overlong_text(self.texts, self._limits.max_item_tokens)
        query = overlong_text(self.texts, self._limits.max_prefix_tokens)
        fields = dict.fromkeys(self._manifest.prompt.fields, query)
        most = self._lists.max_items
        alone = self._lists.join == "refuse"  # the long one may fill the one block
        items = [long, *few][:most] if alone else [*few[:1], long, *few[1:]][-most:]
        return ListSample("truncation", fields, items, "truncate")

    def _mixed(self, mode: str, place: int, texts: Sequence[str], others: Sequence[Item]) -> ListSample:
        """Puts items of another form among texts, as far as one block holds them."""
        most = self._lists.max_items
        items = [*texts[:1], *others, *texts[1:]] if most > len(others) else others[:most]
        return self.sample(mode, place, items[:most])

    def _marked(self, texts: Sequence[str]) -> ListSample:
        """Spells markers in every text, one inside the name of another."""
        names = self._markers.names()
        inside = names[0][:2] + names[-1] + names[0][2:]
        marked = [f"{text}{names[0]} {inside}{text}" for text in texts]
        query = f"{names[-1]}{self._queries[0]}{inside}"
        fields = dict.fromkeys(self._manifest.prompt.fields, query)
        return ListSample("markers", fields, marked, "truncate")


def _embeddings(form: Embedding) -> list[Item]:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((4, form.tokens, form.hidden_size)) * 0.1
    return list(rows.astype(form.dtype))
