"""Samples for the proof of a cross-encoder that answers by a token, and its source run the plain way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rankport.exporters.kinds.texts.pairs.reference import PairIds
from rankport.exporters.kinds.texts.pairs.samples import SampledTexts, together
from rankport.exporters.kinds.texts.samples import sample_runs, sample_texts
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.prompt.encoded import EncodedItems
from rankport.runtime.prompt.pair_prompts import PairPrompt
from rankport.runtime.prompt.tokenizer import Tokenizer

_QUERIES = 4
_DRAWN = 12


@dataclass(frozen=True, slots=True)
class FirstTokenReference:
    """Logits of label tokens by an encoder-decoder's own forward, one pair at a time, unpadded, after one step."""

    model: nn.Module
    tokens: Sequence[int]

    def logits(self, pairs: Sequence[PairIds]) -> NDArray[np.float32]:
        """Computes the logits of pairs. [pairs, labels]"""
        start = torch.tensor([[self.model.config.decoder_start_token_id]])  # type: ignore[union-attr]
        rows = []
        for pair in pairs:
            with torch.no_grad():
                answer = self.model(input_ids=torch.tensor(pair.ids)[None], decoder_input_ids=start)
            rows.append(answer.logits[0, -1, list(self.tokens)].float().numpy())
        return np.stack(rows)


def prompted_pairs(manifest: Manifest, tokenizer: Tokenizer | None) -> list[SampledTexts]:
    """Draws pairs within the limits, in the other order, and over the limit; ids alone without a tokenizer."""
    pairs = PairPrompt(manifest, tokenizer)
    if tokenizer is None:
        return [_drawn(manifest, pairs)]
    texts = sample_texts(tokenizer, manifest.limits.max_item_tokens)
    short = [text for text in texts if _fits(manifest, tokenizer, text)]
    first, items = short[:_QUERIES], short[_QUERIES:]
    asked = [("pair", query, items) for query in first]
    asked += [("pair_order", item, first) for item in items[:_QUERIES]]
    asked += [("truncation", query, texts) for query in (texts[0], max(texts, key=len))]
    made: dict[str, list[SampledTexts]] = {}
    for mode, query, candidates in asked:
        prefix = dict.fromkeys(manifest.prompt.fields, query)
        encoded = pairs.encode(prefix, candidates, "truncate")
        made.setdefault(mode, []).append(_sampled(mode, encoded, [(query, item) for item in candidates]))
    return [together(parts) for parts in made.values()]


def _fits(manifest: Manifest, tokenizer: Tokenizer, text: str) -> bool:
    """Tells whether a text is short enough to be either of two, in all fields."""
    limits, fields = manifest.limits, max(1, len(manifest.prompt.fields))
    most = min(limits.max_item_tokens, limits.max_prefix_tokens // fields)
    return len(tokenizer.encode_batch([text])[0]) < most // 2


def _sampled(mode: str, encoded: EncodedItems, texts: Sequence[tuple[str, str]] = ()) -> SampledTexts:
    source = [PairIds(run.ids, None) for run in encoded.runs]
    return SampledTexts(mode, encoded.runs, source, [len(source)], texts)


def _drawn(manifest: Manifest, pairs: PairPrompt) -> SampledTexts:
    """Draws whole sequences of ids, cut anywhere into prefix and item."""
    vocab, limits = manifest.shape.vocab_size, manifest.limits
    items = [run.tolist() for run in sample_runs(vocab, limits.max_item_tokens, count=_DRAWN)]
    prefixes = sample_runs(vocab, limits.max_prefix_tokens, count=3, seed=1)
    return together([_sampled("pair", pairs.encode(prefix.tolist(), items)) for prefix in prefixes])
