"""Fields of the request in the item's segments: part of each item's text, within its limit, cut to their own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import BundleError, InvalidRequest, LimitExceeded
from rankport.protos.types import Truncation
from rankport.runtime.bundle.manifest import Embedding, Limits, ModelShape, Prompt, Segment
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.tokens import EMBEDDED
from support.effort import scale
from support.joined_prompts import ANY_TEXT, ITEM_FIRST, TOKENIZERS, encoder_of, joined_text
from support.prompt_encoders import BLUE, CLS, COLON, GREEN, QUERY, RED, SEP, SHOES, encoded, ids, made

APART = Prompt(
    prefix=[Segment(special=["[CLS]"]), Segment(field="style")],
    item=[
        Segment(item=True, max_tokens=4),
        Segment(text="query :"),
        Segment(field="query", max_tokens=2, keep="end"),
        Segment(special=["[SEP]"]),
    ],
)
"""Each value is tokenized by itself."""
LIMITS = Limits(max_prefix_tokens=8, max_item_tokens=10)
FIELDS = {"style": "blue", "query": "red shoes"}


def cut_to(most: int, keep: str = "start") -> Prompt:
    item = [
        segment.model_copy(update={"max_tokens": most, "keep": keep}) if segment.field else segment
        for segment in ITEM_FIRST.item
    ]
    return Prompt(prefix=ITEM_FIRST.prefix, item=item)


def test_a_field_stands_behind_every_form_of_item() -> None:
    encoder = made(prompt=APART, limits=LIMITS)
    assert encoder.fields == ("style", "query")
    prefix = encoder.encode_prefix(FIELDS)
    assert ids(prefix) == [CLS, BLUE]
    forms = encoded(encoder, ["green", [GREEN, GREEN], np.zeros((2, 4), np.float16)], behind=prefix)
    behind = [QUERY, COLON, RED, SHOES, SEP]
    assert [ids(run) for run in forms] == [[GREEN, *behind], [GREEN, GREEN, *behind], [EMBEDDED] * 2 + behind]


def test_requests_do_not_see_each_others_fields() -> None:
    encoder = made(prompt=APART, limits=LIMITS)
    first, second = (encoder.encode_prefix(FIELDS | {"query": query}) for query in ("red", "shoes"))
    assert [ids(run) for run in encoded(encoder, ["blue"], behind=first)] == [[BLUE, QUERY, COLON, RED, SEP]]
    assert [ids(run) for run in encoded(encoder, ["blue"], behind=second)] == [
        [BLUE, QUERY, COLON, SHOES, SEP]
    ]


def test_a_field_over_its_limit_is_refused_or_cut_and_told() -> None:
    encoder, long = made(prompt=APART, limits=LIMITS), FIELDS | {"query": "red green blue"}
    with pytest.raises(LimitExceeded, match="prefix: segment 'query' has 3 tokens, its max_tokens is 2"):
        encoder.encode_prefix(long)
    prefix = encoder.encode_prefix(long, "truncate")
    assert prefix.truncated
    assert [ids(run) for run in encoded(encoder, ["red"], behind=prefix)] == [
        [RED, QUERY, COLON, GREEN, BLUE, SEP]
    ]


def test_an_item_has_the_room_that_the_field_leaves() -> None:
    free = APART.model_copy(
        update={"item": [Segment(item=True), Segment(field="query"), Segment(special=["[SEP]"])]}
    )
    encoder = made(prompt=free, limits=Limits(max_prefix_tokens=8, max_item_tokens=6))
    prefix = encoder.encode_prefix(FIELDS)
    (item,) = encoded(encoder, ["blue " * 9], "truncate", behind=prefix)
    assert (ids(item), item.truncated) == ([BLUE] * 3 + [RED, SHOES, SEP], True)
    with pytest.raises(LimitExceeded, match="item 0: 7 tokens with segment 'item', max_item_tokens is 6"):
        encoded(encoder, ["blue " * 4], behind=prefix)
    for truncation in ("error", "truncate"):
        with pytest.raises(
            LimitExceeded,
            match="prefix: segment 'query' leaves an item no room in max_item_tokens 6: shorten it",
        ):
            encoder.encode_prefix(FIELDS | {"query": "red " * 5}, truncation)


def test_token_ids_as_a_prefix_say_nothing_of_the_field() -> None:
    encoder = made(prompt=APART, limits=LIMITS)
    with pytest.raises(
        InvalidRequest, match="prefix: token ids say nothing of query, which stands in each item"
    ):
        encoder.encode_items(["red"], behind=encoder.encode_prefix([CLS]))


def test_a_field_with_a_token_that_the_model_lacks_is_refused_for_every_form_of_item() -> None:
    shape = ModelShape(hidden_size=4, vocab_size=SHOES, layers=[])
    encoder = made(prompt=APART, limits=LIMITS, shape=shape)
    with pytest.raises(
        InvalidRequest, match="prefix: holds token 9, 'shoes', outside the model's vocabulary"
    ):
        encoder.encode_prefix(FIELDS)


@pytest.mark.parametrize(("tokens", "least"), [(1, 6), (2, 7)])
def test_limits_must_hold_the_literals_the_longest_field_and_an_item(tokens: int, least: int) -> None:
    embedding = Embedding(tokens=tokens, hidden_size=4, dtype="float16")

    def of(most: int) -> PromptEncoder:
        limits = Limits(max_prefix_tokens=8, max_item_tokens=most)
        return made(prompt=APART, limits=limits, embedding=embedding)

    encoder = of(least)
    (run,) = encoded(encoder, [np.zeros((tokens, 4))], behind=encoder.encode_prefix(FIELDS))
    assert len(ids(run)) == least
    with pytest.raises(BundleError, match=r"prompt\.item: literal segments have 3 tokens"):
        of(least - 1)


def test_a_field_there_needs_a_tokenizer() -> None:
    prompt = Prompt(prefix=[], item=[Segment(item=True), Segment(field="query")])
    with pytest.raises(
        BundleError, match=r"prompt\.item: a field needs a tokenizer, and the bundle has none"
    ):
        made(tokenized=False, prompt=prompt)


@pytest.mark.parametrize(("keep", "kept"), [("start", "what is"), ("end", " is it")])
def test_a_joined_field_is_cut_at_characters_and_its_group_tokenized_again(keep: str, kept: str) -> None:
    tokenizer = TOKENIZERS["byte-level"]
    encoder = encoder_of(cut_to(2, keep), tokenizer)
    with pytest.raises(LimitExceeded, match="prefix: segment 'query' has 3 tokens, its max_tokens is 2"):
        encoder.encode_prefix("what is it")
    prefix = encoder.encode_prefix("what is it", "truncate")
    (item,) = encoded(encoder, ["red shoes"], behind=prefix)
    (whole,) = tokenizer.encode_batch([joined_text(ITEM_FIRST, kept, "red shoes")])
    assert prefix.truncated
    assert ids(prefix) + ids(item) == whole.tolist()


@pytest.mark.parametrize("truncation", ["error", "truncate"])
def test_an_item_that_cannot_be_cut_to_its_limit_is_refused(truncation: Truncation) -> None:
    """A library that fuses unknown characters tells wrong places behind them: 5,006 tokens of an item went on."""
    prompt = Prompt(prefix=[], item=[Segment(field="query", max_tokens=1), Segment(item=True, joined=True)])
    encoder = encoder_of(prompt, TOKENIZERS["metaspace"], item=24)
    prefix = encoder.encode_prefix("x" * 60)
    (item,) = encoded(encoder, ["y" * 9], truncation, behind=prefix)
    assert len(ids(item)) == 10
    with pytest.raises(LimitExceeded, match=r"item 0: .* max_item_tokens is 24"):
        encoder.encode_items(["y" * 100], truncation, behind=prefix)


@settings(max_examples=scale(25))
@given(
    query=ANY_TEXT,
    items=st.lists(ANY_TEXT.filter(str.strip), min_size=1, max_size=3),
    kind=st.sampled_from(sorted(TOKENIZERS)),
)
def test_whatever_the_texts_items_fit_their_limit_behind_a_field_that_is_cut(
    query: str, items: list[str], kind: str
) -> None:
    encoder = encoder_of(cut_to(3), TOKENIZERS[kind], item=24)
    prefix = encoder.encode_prefix(query, "truncate")
    result = encoder.encode_items(items, "truncate", behind=prefix, skip_empty=True)
    assert len(result.runs) + len(result.empty) == len(items)
    assert all(len(run.ids) <= 24 for run in result.runs)
