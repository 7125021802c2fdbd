"""Joined segments: exactly the ids of the joined text, and a prefix that no item changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.prompt_file import tokenization_difference
from support.effort import scale
from support.joined_prompts import (
    ANY_TEXT,
    FRAMED,
    ITEM_FIRST,
    OFFICIAL,
    TEXTS,
    TOKENIZERS,
    encoder_of,
    joined_text,
    whole_ids,
)
from support.prompt_encoders import encoded, ids
from support.text_tokenizers import KINDS

# --- equal to the joined text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", [OFFICIAL, FRAMED, ITEM_FIRST], ids=["official", "framed", "item-first"])
def test_joined_segments_give_the_ids_of_the_joined_text(kind: str, prompt: Prompt) -> None:
    tokenizer = TOKENIZERS[kind]
    encoder = encoder_of(prompt, tokenizer)
    items = [text for text in TEXTS if text]
    for query in TEXTS:
        texts = [joined_text(prompt, query, item) for item in items]
        assert whole_ids(encoder, query, items) == [run.tolist() for run in tokenizer.encode_batch(texts)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=scale(25))
@given(query=ANY_TEXT, items=st.lists(ANY_TEXT, min_size=1, max_size=4))
def test_whatever_the_texts_joined_ids_are_those_of_the_joined_text(
    kind: str, query: str, items: list[str]
) -> None:
    tokenizer = TOKENIZERS[kind]
    for prompt in (OFFICIAL, FRAMED, ITEM_FIRST):
        compiled = CompiledPrompt.of(prompt, tokenizer)
        for item in items:
            (wanted,) = tokenizer.encode_batch([joined_text(prompt, query, item)])
            assert compiled.ids([query], item, tokenizer).tolist() == wanted.tolist()


def test_the_published_prompt_gives_the_published_ids() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    encoder = encoder_of(OFFICIAL, tokenizer)
    assert [tokenizer.decode([token]) for token in ids(encoder.encode_prefix("what is it"))] == [
        *("<", "Query", ">:", " what", " is", " it", "\n", "<", "Document", ">:")
    ]
    assert [[tokenizer.decode(ids(item))] for item in encoded(encoder, ["it is", "5"])] == [
        [" it is"],
        [" 5"],
    ]


def test_a_prefix_is_a_head_of_the_joined_text_whatever_the_item() -> None:
    for tokenizer in TOKENIZERS.values():
        prefix = ids(encoder_of(OFFICIAL, tokenizer).encode_prefix("red shoes"))
        for item in TEXTS:
            (whole,) = tokenizer.encode_batch([joined_text(OFFICIAL, "red shoes", item)])
            assert whole[: len(prefix)].tolist() == prefix


def test_a_text_that_ends_in_a_word_leaves_the_word_to_the_item() -> None:
    prompt = Prompt(
        prefix=[Segment(text="what is red"), Segment(text="query", joined=True)],
        item=[Segment(item=True, joined=True)],
    )
    compiled = CompiledPrompt.of(prompt, TOKENIZERS["word-piece"])
    assert compiled.edge is not None
    assert (compiled.edge.stable, compiled.edge.rest) == ("what is", " redquery")
    assert compiled.edge.exact == compiled.edge.tried


_BRACKETS = Prompt(
    prefix=[Segment(field="query"), Segment(text=")(", joined=True)], item=[Segment(item=True, joined=True)]
)


def test_where_a_tokenizer_begins_every_text_anew_the_item_is_tokenized_behind_the_text_before_it() -> None:
    # "▁" is put before a text: the item by itself would begin with it.
    tokenizer = TOKENIZERS["metaspace"]
    compiled = CompiledPrompt.of(_BRACKETS, tokenizer)
    assert compiled.edge is not None
    # A token "(n" reaches over the bracket: the text is cut before it.
    assert (compiled.edge.stable, compiled.edge.context, compiled.edge.rest) == (")", ")", "(")
    assert compiled.edge.exact == compiled.edge.tried
    encoder, items = encoder_of(_BRACKETS, tokenizer), ["shoes", "12 boots", " x"]
    texts = [joined_text(_BRACKETS, "red", item) for item in items]
    assert whole_ids(encoder, "red", items) == [run.tolist() for run in tokenizer.encode_batch(texts)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", [OFFICIAL, FRAMED, _BRACKETS], ids=["official", "framed", "brackets"])
def test_of_blank_items_alone_all_are_empty(kind: str, prompt: Prompt) -> None:
    result = encoder_of(prompt, TOKENIZERS[kind]).encode_items(["", " \n"], skip_empty=True)
    assert (len(result.runs), result.empty.tolist()) == (0, [0, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_an_instruction_before_an_item_is_one_text_with_it_cut_as_pipelines_cut(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    prompt = Prompt(prefix=[], item=[Segment(text="query: "), Segment(item=True, joined=True)])
    items = ["what is it", "red shoes " * 9]
    whole = [run.tolist() for run in tokenizer.encode_batch([f"query: {item}" for item in items])]
    assert [ids(item) for item in encoded(encoder_of(prompt, tokenizer), items)] == whole
    short = encoded(encoder_of(prompt, tokenizer, item=14), items, truncation="truncate")
    assert [ids(item) for item in short] == [run[:14] for run in whole]
    assert [item.truncated for item in short] == [len(run) > 14 for run in whole]


def test_the_report_counts_no_difference_where_segments_are_joined() -> None:
    tokenizer = TOKENIZERS["qwen"]
    apart = Prompt(
        prefix=[segment.model_copy(update={"joined": False}) for segment in OFFICIAL.prefix],
        item=[Segment(item=True)],
    )
    pairs = [("what is it", "it is"), ("red", "5"), ("12", "no")]
    assert tokenization_difference(OFFICIAL, tokenizer, pairs) == (3, 0)
    assert tokenization_difference(apart, tokenizer, pairs) == (3, 3)


# --- ids, embedding tokens ------------------------------------------------------------------------------------------


def test_around_token_ids_the_texts_are_tokenized_alone() -> None:
    tokenizer = TOKENIZERS["qwen"]
    encoder = encoder_of(FRAMED, tokenizer)
    before, after = tokenizer.encode_batch([" (", ")\nyes or no: "])
    assert [ids(item) for item in encoded(encoder, [[7, 8], "x", [9]])][::2] == [
        [*before, 7, 8, *after],
        [*before, 9, *after],
    ]


def test_a_changed_context_is_found_and_left_out() -> None:
    # A tokenizer that no tried value foresaw: the item's tokens are then those of its own text.
    tokenizer = TOKENIZERS["metaspace"]
    (group,) = CompiledPrompt.of(_BRACKETS, tokenizer).item
    assert not isinstance(group, np.ndarray)
    (alone,) = tokenizer.encode_batch(["(shoes"])
    assert group.without_context(np.array([1, 2, 3]), ["shoes"], tokenizer).tolist() == alone.tolist()
