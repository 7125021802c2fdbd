"""Texts far over their limits: their start alone is tokenized, and what comes of it is that of the whole text."""

import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from rankport.protos.columns import RaggedIds
from rankport.protos.errors import LimitExceeded
from rankport.runtime.bundle.manifest import Limits, Prompt, Segment
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.far_texts import starts_of
from rankport.runtime.prompt.template import far_over
from rankport.runtime.prompt.tokenizer import SpannedTokens, Tokenizer
from support.bundle_samples import ranker_draft, tokenizer_json
from support.effort import every_run
from support.joined_prompts import encoder_of
from support.prompt_encoders import RED, ids, made
from support.text_tokenizers import KINDS, saved

CHARS = 140_000
RED_TEXT = "red " * (CHARS // 4)


class CountingTokenizer(Tokenizer):
    """Counts the characters that it is given."""

    chars = 0

    def encode_ragged(self, texts: Sequence[str]) -> RaggedIds:
        self.chars += sum(map(len, texts))
        return super().encode_ragged(texts)

    def encode_spans(self, texts: Sequence[str]) -> list[SpannedTokens]:
        self.chars += sum(map(len, texts))
        return super().encode_spans(texts)


def counting(kind: str) -> CountingTokenizer:
    return CountingTokenizer(tokenizers.Tokenizer.from_str(saved(kind)))


def long_text() -> str:
    draw = random.Random(0)
    words = ("it is", "red shoes,", "12", "3.5", "  ", "\n\n", "queries", "aaaaaaaaaaaaa", "é", "(new)")
    return " ".join(draw.choices(words, k=CHARS // 4))[:CHARS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_far_text_begins_with_the_tokens_of_the_whole(kind: str) -> None:
    tokenizer, text = counting(kind), long_text()
    short, start, last = starts_of(tokenizer, ["short", text, "it is"], [20, 20, 20])
    assert (short, last) == ("short", "it is")
    assert tokenizer.chars < CHARS / 2
    assert len(start) < CHARS / 2
    begun, whole = (ids[: far_over(20)].tolist() for ids in tokenizer.encode_batch([start, text]))
    assert (begun, len(begun)) == (whole, far_over(20))
    assert starts_of(tokenizer, [text], [None]) == [text]


def test_a_text_whose_start_tells_nothing_is_read_whole() -> None:
    # A word too long for it is one unknown token.
    assert starts_of(counting("word-piece"), ["a" * CHARS], [20]) == ["a" * CHARS]


def test_unigram_reads_the_whole_of_a_word_that_its_end_may_cut_otherwise() -> None:
    pieces = [("<unk>", 0.0), ("▁", -2.0), ("a", -7.2), ("aaaaaaa", -3.5)]
    inner = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    tokenizer, word = Tokenizer(inner), "a" * 131_075
    seen = [word[: 32_768 - 7_919], word[:32_768], word]
    shorter, longer, whole = (ids[:20].tolist() for ids in tokenizer.encode_batch(seen))
    assert shorter == longer != whole
    words = "aaaaaaaa " * 15_000
    read, start = starts_of(tokenizer, [word, words], [20, 20])
    assert read == word
    assert len(start) < len(words) / 2


class EndsTellTokenizer(Tokenizer):
    """Has other tokens where the text is longer."""

    def encode_ragged(self, texts: Sequence[str]) -> RaggedIds:
        lengths = np.array([len(text) for text in texts])
        return RaggedIds.of_lengths(np.repeat(lengths, lengths), lengths)


def test_where_the_end_changes_the_start_the_whole_is_read() -> None:
    tokenizer = EndsTellTokenizer(tokenizers.Tokenizer.from_str(saved("byte-level")))
    assert starts_of(tokenizer, [RED_TEXT], [20]) == [RED_TEXT]


def test_far_prefixes_and_items_are_refused_by_what_is_known_or_cut_as_others() -> None:
    encoder = made()
    with pytest.raises(LimitExceeded, match="'query' has more than 8 tokens, its max_tokens is 4: shorten"):
        encoder.encode_prefix(RED_TEXT)
    with pytest.raises(LimitExceeded, match="item 1: segment 'item' has more than 8 tokens") as refused:
        encoder.encode_items(["red", RED_TEXT, "red " * 9, "red", RED_TEXT])
    assert refused.value.places == (1, 2, 4)
    cut = encoder.encode_items([RED_TEXT, "red"], "truncate")
    assert (cut.truncated.tolist(), cut.runs.lengths.tolist()) == ([0], [5, 2])
    assert ids(encoder.encode_prefix(RED_TEXT, "truncate"))[-4:] == [RED] * 4  # of its end


@pytest.mark.parametrize("max_tokens", [None, 5])
def test_several_fields_share_what_is_left_as_if_all_were_tokenized(max_tokens: int | None) -> None:
    prompt = Prompt(
        prefix=[Segment(field="a", max_tokens=max_tokens), Segment(field="b", max_tokens=max_tokens)],
        item=[Segment(item=True)],
    )
    draft = ranker_draft(prompt=prompt, limits=Limits(max_prefix_tokens=7, max_item_tokens=4))
    tokenizer = CountingTokenizer(tokenizers.Tokenizer.from_str(tokenizer_json().decode()))
    far, longer = "red " * 40_000, "green " * 41_000
    encoder, fields = PromptEncoder(draft, tokenizer), {"a": longer, "b": far}
    filled = encoder.encode_prefix(fields, "truncate")
    assert (tokenizer.chars < len(far + longer)) is (max_tokens is not None)
    near = encoder.encode_prefix({"a": "green " * 41, "b": "red " * 40}, "truncate")
    assert filled.truncated
    assert (ids(filled), len(ids(filled))) == (ids(near), 7)


@pytest.mark.parametrize("keep", every_run(["start", "end"], {"start"}))
def test_joined_values_are_cut_as_if_all_were_read(keep: Literal["start", "end"]) -> None:
    tokenizer = counting("byte-level")
    segments = [Segment(field="query", keep=keep), Segment(text=":", joined=True)]
    item = [Segment(text=" (", joined=True), Segment(item=True, joined=True, keep=keep, max_tokens=20)]
    encoder = encoder_of(Prompt(prefix=segments, item=item), tokenizer, prefix=30, item=30)
    (near, cut), (far, also) = (
        (ids(encoder.encode_prefix(text, "truncate")), encoder.encode_items([text], "truncate"))
        for text in ("what is it no " * 20, "what is it no " * 10_000)
    )
    assert near == far
    assert cut.runs.ids.tolist() == also.runs.ids.tolist()
    assert (cut.truncated.tolist(), also.truncated.tolist()) == ([0], [0])
    assert (tokenizer.chars < 280_000) is (keep == "start")
    with pytest.raises(LimitExceeded, match="item 0: segment 'item' has more than 40 tokens"):
        encoder.encode_items(["what is it no " * 10_000])
    with pytest.raises(LimitExceeded, match="prefix: more than 60 tokens with segment 'query'"):
        encoder.encode_prefix("what is it no " * 10_000)
