"""Texts far over their limits: their start alone is tokenized, and what comes of it is that of the whole text."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
import tokenizers

from rankport.protos.columns import RaggedIds
from rankport.protos.errors import LimitExceeded
from rankport.runtime.bundle.manifest import Limits, Prompt, Segment
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.far_texts import encode_kept
from rankport.runtime.prompt.template import far_over
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.bundle_samples import ranker_draft, tokenizer_json
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


def counting(kind: str) -> CountingTokenizer:
    return CountingTokenizer(tokenizers.Tokenizer.from_str(saved(kind)))


def long_text() -> str:
    draw = random.Random(0)
    words = ("it is", "red shoes,", "12", "3.5", "  ", "\n\n", "queries", "aaaaaaaaaaaaa", "é", "(new)")
    return " ".join(draw.choices(words, k=CHARS // 4))[:CHARS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_far_text_begins_with_the_tokens_of_the_whole(kind: str) -> None:
    tokenizer, text = counting(kind), long_text()
    runs = encode_kept(tokenizer, ["short", text, "it is"], [20, 20, 20])
    assert tokenizer.chars < CHARS / 2
    whole = tokenizer.encode_batch(["short", text, "it is"])
    assert [run.tolist() for run in whole[::2]] == [runs.run(0).tolist(), runs.run(2).tolist()]
    assert runs.run(1).tolist() == whole[1][: far_over(20)].tolist()
    every = encode_kept(tokenizer, [text], [None])
    assert every.run(0).tolist() == whole[1].tolist()


def test_a_text_whose_start_tells_nothing_is_tokenized_whole() -> None:
    word = counting("word-piece")
    runs = encode_kept(word, ["a" * CHARS], [20])  # a word too long for it is one unknown token
    assert word.chars > CHARS
    assert runs.run(0).tolist() == word.encode_batch(["a" * CHARS])[0].tolist()


class EndsTellTokenizer(CountingTokenizer):
    """Has other tokens where the text is longer."""

    def encode_ragged(self, texts: Sequence[str]) -> RaggedIds:
        super().encode_ragged(texts)
        lengths = np.array([len(text) for text in texts])
        return RaggedIds.of_lengths(np.repeat(lengths, lengths), lengths)


def test_where_the_end_changes_the_start_the_whole_is_tokenized() -> None:
    tokenizer = EndsTellTokenizer(tokenizers.Tokenizer.from_str(saved("byte-level")))
    assert encode_kept(tokenizer, [RED_TEXT], [20]).run(0).tolist() == [len(RED_TEXT)] * len(RED_TEXT)


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
    assert (tokenizer.chars < len(far)) is (max_tokens is not None)
    near = encoder.encode_prefix({"a": "green " * 41, "b": "red " * 40}, "truncate")
    assert filled.truncated
    assert (ids(filled), len(ids(filled))) == (ids(near), 7)
