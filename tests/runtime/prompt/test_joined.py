"""Joined segments: exactly the ids of the joined text, a prefix that no item changes, and limits that hold."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import BundleError, InvalidRequest, LimitExceeded
from rankport.runtime.bundle.manifest import Limits, ModelShape, Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.prompt_file import tokenization_difference
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.bundle_samples import ranker_draft
from support.effort import scale
from support.prompt_encoders import encoded, ids
from support.text_tokenizers import KINDS, tokenizer_of

OFFICIAL = Prompt(
    prefix=[
        Segment(text="<Query>: "),
        Segment(field="query", joined=True),
        Segment(text="\n<Document>: ", joined=True),
    ],
    item=[Segment(item=True, joined=True)],
)
FRAMED = Prompt(
    prefix=[Segment(text="A: "), Segment(field="query", joined=True), Segment(text="\nB:", joined=True)],
    item=[
        Segment(text=" (", joined=True),
        Segment(item=True, joined=True),
        Segment(text=")\nyes or no: ", joined=True),
    ],
)
TEXTS = (
    "what is it",
    "it is",
    "what what",
    "no it",
    "",
    " red",
    "shoes \n",
    "12",
    "我们 é",
    "'s (x)",
    "\n\nA",
)
TOKENIZERS = {kind: tokenizer_of(kind) for kind in KINDS}


def encoder_of(prompt: Prompt, tokenizer: Tokenizer, prefix: int = 400, item: int = 400) -> PromptEncoder:
    """Makes an encoder of text alone."""
    draft = ranker_draft(
        prompt=prompt,
        shape=ModelShape(hidden_size=4, vocab_size=tokenizer.vocab_size, layers=[]),
        limits=Limits(max_prefix_tokens=prefix, max_item_tokens=item),
        embedding=None,
        pairing=None,
    )
    return PromptEncoder(draft, tokenizer)


def joined_text(prompt: Prompt, query: str, item: str) -> str:
    """Writes a prompt of texts by hand."""
    parts = [
        query if segment.field else item if segment.item else segment.text or ""
        for segment in [*prompt.prefix, *prompt.item]
    ]
    return "".join(parts)


def whole_ids(encoder: PromptEncoder, query: str, items: Sequence[str]) -> list[list[int]]:
    """Lists the ids of prefix and item, for each item."""
    prefix = ids(encoder.encode_prefix(query))
    return [prefix + ids(item) for item in encoded(encoder, items)]


# --- equal to the joined text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", [OFFICIAL, FRAMED], ids=["official", "framed"])
def test_joined_segments_give_the_ids_of_the_joined_text(kind: str, prompt: Prompt) -> None:
    tokenizer = TOKENIZERS[kind]
    encoder = encoder_of(prompt, tokenizer)
    items = [text for text in TEXTS if text]
    for query in TEXTS:
        texts = [joined_text(prompt, query, item) for item in items]
        assert whole_ids(encoder, query, items) == [run.tolist() for run in tokenizer.encode_batch(texts)]


_TEXT = st.text(st.sampled_from("ab it12.,:;-'\"()<>#_ \n\t\r我é\u0301😀\u00a0Я"), max_size=12) | st.text(
    st.characters(exclude_categories=("Cs",)), max_size=8
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=scale(25), deadline=None)
@given(query=_TEXT, items=st.lists(_TEXT, min_size=1, max_size=4))
def test_whatever_the_texts_joined_ids_are_those_of_the_joined_text(
    kind: str, query: str, items: list[str]
) -> None:
    tokenizer = TOKENIZERS[kind]
    for prompt in (OFFICIAL, FRAMED):
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


# --- limits ---------------------------------------------------------------------------------------------------------


def limited(most: int, keep: str = "start") -> Prompt:
    return Prompt.model_validate(
        {
            "prefix": [
                {"text": "<Query>: "},
                {"field": "query", "joined": True, "max_tokens": most, "keep": keep},
                {"text": "\n<Document>: ", "joined": True},
            ],
            "item": [{"item": True, "joined": True, "max_tokens": most, "keep": keep}],
        }
    )


def test_a_value_over_its_limit_is_refused_with_its_tokens() -> None:
    encoder = encoder_of(limited(2), TOKENIZERS["byte-level"])
    with pytest.raises(LimitExceeded, match="prefix: segment 'query' has 3 tokens, its max_tokens is 2"):
        encoder.encode_prefix("what is it")
    with pytest.raises(LimitExceeded, match="item 1: segment 'item' has 4 tokens, its max_tokens is 2"):
        encoded(encoder, ["it is", "what is it no"])
    assert len(ids(encoder.encode_prefix("what is"))) == 9


@pytest.mark.parametrize(("keep", "kept"), [("start", "what is"), ("end", " is it")])
def test_a_value_is_cut_at_characters_and_tokenized_again(keep: str, kept: str) -> None:
    tokenizer = TOKENIZERS["byte-level"]
    encoder = encoder_of(limited(2, keep), tokenizer)
    prefix = encoder.encode_prefix("what is it", truncation="truncate")
    (item,) = encoded(encoder, ["what is it"], truncation="truncate")
    assert prefix.truncated
    assert item.truncated
    (whole,) = tokenizer.encode_batch([joined_text(OFFICIAL, kept, kept)])
    assert ids(prefix) + ids(item) == whole.tolist()


def test_a_value_at_the_end_of_its_group_keeps_the_first_tokens_as_pipelines_cut() -> None:
    tokenizer = TOKENIZERS["word-piece"]
    prompt = Prompt(
        prefix=[
            Segment(text="query: "),
            Segment(field="query", joined=True, max_tokens=3),
            Segment(text=" passage: "),
        ],
        item=[Segment(item=True, joined=True, max_tokens=4)],
    )
    prefix = encoder_of(prompt, tokenizer).encode_prefix("shoesboots and red", truncation="truncate")
    (item,) = encoded(encoder_of(prompt, tokenizer), ["bootsshoes and red"], truncation="truncate")
    query, passage = tokenizer.encode_batch(["query: shoesboots and red", "passage: bootsshoes and red"])
    assert ids(prefix) == [*query[:5], *passage[:2]]
    assert ids(item) == passage[2:6].tolist()
    assert (prefix.truncated, item.truncated) == (True, True)


_TIGHT = Prompt(
    prefix=[
        Segment(text="A: "),
        Segment(field="a", joined=True, max_tokens=6, keep="end"),
        Segment(text="\nB: ", joined=True),
        Segment(field="b", joined=True),
        Segment(text=" C: ", joined=True),
    ],
    item=[Segment(item=True, joined=True, max_tokens=5), Segment(text=" yes", joined=True)],
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=scale(15), deadline=None)
@given(first=_TEXT, second=_TEXT, items=st.lists(_TEXT.filter(str.strip), min_size=1, max_size=3))
def test_limits_hold_and_what_fits_stays_whole(kind: str, first: str, second: str, items: list[str]) -> None:
    tokenizer = TOKENIZERS[kind]
    tight, wide = encoder_of(_TIGHT, tokenizer, prefix=22, item=9), encoder_of(_TIGHT, tokenizer)
    fields = {"a": first, "b": second}
    prefix = tight.encode_prefix(fields, truncation="truncate")
    assert len(ids(prefix)) <= 22
    if not prefix.truncated:
        assert ids(prefix) == ids(wide.encode_prefix(fields))
    whole = [ids(item) for item in encoded(wide, items, truncation="truncate")]
    for item, uncut in zip(encoded(tight, items, truncation="truncate"), whole, strict=True):
        assert len(ids(item)) <= 9
        assert item.truncated or ids(item) == uncut


def test_literals_that_leave_no_room_are_refused_on_loading() -> None:
    with pytest.raises(
        BundleError, match=r"prompt\.prefix: literal segments have 8 tokens, .* 7 does not hold"
    ):
        encoder_of(OFFICIAL, TOKENIZERS["byte-level"], prefix=7)
    with pytest.raises(
        BundleError, match=r"prompt\.item: literal segments have \d+ tokens, .* 2 does not hold"
    ):
        encoder_of(FRAMED, TOKENIZERS["byte-level"], item=2)


def test_a_token_that_the_model_has_no_row_for_is_refused_in_joined_text_too() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    (last,) = tokenizer.encode_batch([" what"])
    draft = ranker_draft(
        prompt=OFFICIAL,
        shape=ModelShape(hidden_size=4, vocab_size=int(last.max()), layers=[]),
        limits=Limits(max_prefix_tokens=50, max_item_tokens=50),
        embedding=None,
    )
    encoder = PromptEncoder(draft, tokenizer)
    with pytest.raises(InvalidRequest, match=r"prefix: holds token .* outside the model's vocabulary"):
        encoder.encode_prefix("what")
    with pytest.raises(InvalidRequest, match=r"item 1: holds token .* outside the model's vocabulary"):
        encoded(encoder, ["a", "what"])


# --- what cannot be joined ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "item", "complaint"),
    [
        ([], [Segment(item=True, joined=True)], r"item\[0\]: joined = true has no segment before it"),
        (
            [Segment(field="query")],
            [Segment(item=True, joined=True)],
            r"item\[0\]: joined = true after the field 'query' .* end the prefix in a text segment",
        ),
        (
            [Segment(special=["[CLS]"]), Segment(field="query", joined=True)],
            [Segment(item=True)],
            r"prefix\[1\]: joined = true beside special",
        ),
        (
            [Segment(text="a"), Segment(special=["[CLS]"], joined=True)],
            [Segment(item=True)],
            r"prefix\[1\]: joined = true beside special",
        ),
    ],
)
def test_a_join_that_cannot_be_is_refused_by_name(
    prefix: list[Segment], item: list[Segment], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Prompt(prefix=prefix, item=item)


def test_joined_values_need_a_tokenizer() -> None:
    prompt = Prompt(prefix=[Segment(field="a"), Segment(field="b", joined=True)], item=[Segment(item=True)])
    with pytest.raises(BundleError, match=r"prompt\.prefix\[1\]: joined needs a tokenizer"):
        CompiledPrompt.of(prompt, None)


def test_a_changed_context_is_found_and_left_out() -> None:
    # A tokenizer that no tried value foresaw: the item's tokens are then those of its own text.
    tokenizer = TOKENIZERS["metaspace"]
    (group,) = CompiledPrompt.of(_BRACKETS, tokenizer).item
    assert not isinstance(group, np.ndarray)
    (alone,) = tokenizer.encode_batch(["(shoes"])
    assert group.without_context(np.array([1, 2, 3]), ["shoes"], tokenizer).tolist() == alone.tolist()
