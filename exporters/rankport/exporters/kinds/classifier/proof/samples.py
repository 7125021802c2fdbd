"""Texts that a proof of a classifier asks, one by one: short enough, and over the limit."""

from collections.abc import Callable, Sequence

import numpy as np

from rankport.exporters.kinds.texts.pairs.frame import PairTokenizer
from rankport.exporters.kinds.texts.pairs.reference import PairIds
from rankport.exporters.kinds.texts.pairs.samples import SampledTexts
from rankport.exporters.kinds.texts.samples import overlong_text, sample_runs, sample_texts
from rankport.exporters.proof.windows import LONGEST
from rankport.protos.errors import ParityError
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import TokenRuns

_LONG = 3


def sampled_texts(
    manifest: Manifest, tokenizer: Tokenizer | None, owner: PairTokenizer | None, before: str | None
) -> list[SampledTexts]:
    """Draws texts, or runs of token ids where there is no tokenizer.

    A text that is cut at a limit beyond `LONGEST` is read, and not run: attention over it may fit no machine. `before`
    is the text that the owner puts before each; None where the prompt is not the owner's. Raises ParityError where the
    bundle makes other ids of a text than the checkpoint's tokenizer.
    """
    encoder, most = PromptEncoder(manifest, tokenizer), manifest.limits.max_item_tokens
    if tokenizer is None or owner is None:
        drawn = sample_runs(manifest.shape.vocab_size, most)
        return [_sampled("text", encoder.encode_items(drawn).runs)]
    texts = sample_texts(tokenizer, most)
    long = [overlong_text(texts, most), *sorted(texts, key=len)[-_LONG:]]
    run = {"text", "truncation"} if most <= LONGEST else {"text"}
    short = [text for text in texts if len(encoder.encode_items([text], "truncate").truncated) == 0]
    made = []
    for mode, asked in (("text", short), ("truncation", long)):
        runs = encoder.encode_items(asked, "truncate").runs
        if before is not None:
            _require_same(mode, asked, runs, lambda text: owner.encode_one(before + text, most))
        if mode in run:
            made.append(_sampled(mode, runs))
    return made


def _sampled(mode: str, runs: TokenRuns) -> SampledTexts:
    return SampledTexts(mode, runs, [PairIds(run.ids, None) for run in runs], [len(runs)])


def _require_same(
    mode: str, texts: Sequence[str], runs: TokenRuns, by_owner: Callable[[str], list[int]]
) -> None:
    """Raises ParityError where the runtime's ids of a text are not the tokenizer's."""
    for text, run in zip(texts, runs, strict=True):
        ours, theirs = run.ids, np.array(by_owner(text), np.int64)
        if not np.array_equal(ours, theirs):
            shared = min(len(ours), len(theirs))
            place = next((place for place in range(shared) if ours[place] != theirs[place]), shared)
            raise ParityError(
                f"{mode}: the text {text[:30]!r} is {len(ours)} tokens in the bundle and {len(theirs)} by the "
                f"checkpoint's tokenizer, from token {place} on {ours[place : place + 3].tolist()} and "
                f"{theirs[place : place + 3].tolist()}: prompt or max_item_tokens of the bundle are other ones"
            )
