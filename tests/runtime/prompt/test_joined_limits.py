"""Limits of joined segments, and joins that cannot be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import BundleError, InvalidRequest, LimitExceeded
from rankport.runtime.bundle.manifest import Limits, ModelShape, Prompt, Segment
from rankport.runtime.prompt.compiled import CompiledPrompt
from rankport.runtime.prompt.encoder import PromptEncoder
from support.bundle_samples import ranker_draft
from support.effort import scale
from support.joined_prompts import ANY_TEXT, FRAMED, OFFICIAL, TOKENIZERS, encoder_of, joined_text
from support.prompt_encoders import encoded, ids
from support.text_tokenizers import KINDS

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


def test_an_error_has_the_places_of_all_long_items() -> None:
    encoder = encoder_of(limited(2), TOKENIZERS["byte-level"])
    with pytest.raises(LimitExceeded, match="item 1: ") as error:
        encoded(encoder, ["it is", "what is it no", "is", "what is it"])
    assert error.value.places == (1, 3)


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
@settings(max_examples=scale(15))
@given(first=ANY_TEXT, second=ANY_TEXT, items=st.lists(ANY_TEXT.filter(str.strip), min_size=1, max_size=3))
def test_limits_hold_and_what_fits_stays_whole(kind: str, first: str, second: str, items: list[str]) -> None:
    tokenizer = TOKENIZERS[kind]
    tight, wide = encoder_of(_TIGHT, tokenizer, prefix=22, item=9), encoder_of(_TIGHT, tokenizer)
    fields = {"a": first, "b": second}
    prefix = tight.encode_prefix(fields, truncation="truncate")
    assert len(ids(prefix)) <= 22
    if not prefix.truncated:
        assert ids(prefix) == ids(wide.encode_prefix(fields))
    some = [items[place] for place in wide.encode_items(items, "truncate", skip_empty=True).places]
    whole = [ids(item) for item in encoded(wide, some, truncation="truncate")]
    for item, uncut in zip(encoded(tight, some, truncation="truncate"), whole, strict=True):
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
