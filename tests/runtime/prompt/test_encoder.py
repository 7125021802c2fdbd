"""`PromptEncoder` and its prefixes, limits and tokenizer: exactly the ids that the prompt says, or a named error."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import BundleError, InvalidRequest, LimitExceeded
from rankport.protos.types import Truncation
from rankport.runtime.bundle.manifest import Limits, ModelShape, Prompt, Segment
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.template import fair_shares
from support.bundle_samples import VOCAB_SIZE
from support.effort import scale
from support.prompt_encoders import BLUE, CLS, COLON, GREEN, QUERY, RED, SEP, SHOES, encoded, ids, made

# --- prefix ---------------------------------------------------------------------------------------------------------


def test_a_str_fills_the_only_field(encoder: PromptEncoder) -> None:
    run = encoder.encode_prefix("red shoes")
    assert ids(run) == [CLS, QUERY, COLON, RED, SHOES]
    assert not run.truncated
    assert run.run.embeddings is None
    assert encoder.fields == ("query",)
    assert ids(encoder.encode_prefix({"query": "red shoes"})) == ids(run)


def test_several_fields_stand_where_the_prompt_puts_them() -> None:
    segments = [Segment(field="b"), Segment(special=["[SEP]"]), Segment(field="a")]
    encoder = made(prompt=Prompt(prefix=segments, item=[Segment(item=True)]))
    assert encoder.fields == ("b", "a")
    assert ids(encoder.encode_prefix({"a": "red", "b": "blue green"})) == [BLUE, GREEN, SEP, RED]


@pytest.mark.parametrize("prefix", [[RED, SHOES], (RED, SHOES), np.array([RED, SHOES], np.uint16)])
def test_token_ids_are_the_whole_prefix_verbatim(encoder: PromptEncoder, prefix: Sequence[int]) -> None:
    assert ids(encoder.encode_prefix(prefix)) == [RED, SHOES]


def test_a_prefix_may_be_empty(encoder: PromptEncoder) -> None:
    assert ids(encoder.encode_prefix([])) == []
    bare = made(prompt=Prompt(prefix=[], item=[Segment(item=True)]))
    assert ids(bare.encode_prefix({})) == []
    assert bare.encode_prefix({}).run.ids.dtype == np.int64


def test_a_prefix_that_spells_a_special_token_does_not_get_it(encoder: PromptEncoder) -> None:
    assert ids(encoder.encode_prefix("red [SEP]")).count(SEP) == 0


@pytest.mark.parametrize(
    ("prefix", "complaint"),
    [
        ({}, "fields missing query: the prompt has the fields query"),
        ({"query": "red", "user": "x"}, "fields unknown user: the prompt has the fields query"),
        ({"query": 3}, "prefix field 'query' is an int; give text"),
        ("red \ud800", r"prefix field 'query': '\\ud800' at character 4 is half of a character"),
        ([RED, -1], "prefix: token id -1 at position 1 is outside the vocabulary: must be 0 to 13"),
        ([VOCAB_SIZE], "prefix: token id 14 at position 0 is outside the vocabulary: must be 0 to 13"),
        ([RED, True], "prefix: token id True at position 1 is a bool"),
        (["red"], "prefix: token id 'red' at position 0 is a str"),
        (b"red", "prefix is a bytes; give text, fields"),
        (7, "prefix is an int"),
        (None, "prefix is None"),
    ],
)
def test_a_malformed_prefix_is_refused_by_value(encoder: PromptEncoder, prefix: Any, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        encoder.encode_prefix(prefix)


def test_a_str_for_several_fields_is_refused_with_their_names() -> None:
    segments = [Segment(field="a"), Segment(field="b")]
    with pytest.raises(InvalidRequest, match=r"the fields a, b: give each by name \(--field"):
        made(prompt=Prompt(prefix=segments, item=[Segment(item=True)])).encode_prefix("red")


def test_a_prompt_without_fields_takes_no_text() -> None:
    encoder = made(prompt=Prompt(prefix=[Segment(text="red")], item=[Segment(item=True)]))
    assert list(encoder.encode_prefix("").run.ids) == list(encoder.encode_prefix({}).run.ids) == [RED]
    with pytest.raises(InvalidRequest, match='prefix: a text, but the prompt has no fields: give ""'):
        encoder.encode_prefix("red")


# --- limits ---------------------------------------------------------------------------------------------------------


def test_a_long_field_is_an_error_that_names_segment_and_limit(encoder: PromptEncoder) -> None:
    with pytest.raises(LimitExceeded, match=r"segment 'query' has 5 tokens, its max_tokens is 4.*'truncate'"):
        encoder.encode_prefix("red green blue shoes boots")


def test_a_long_field_is_cut_at_the_end_that_the_prompt_does_not_keep(encoder: PromptEncoder) -> None:
    run = encoder.encode_prefix("red green blue shoes boots", truncation="truncate")
    assert ids(run) == [CLS, QUERY, COLON, GREEN, BLUE, SHOES, 10]
    assert run.truncated


def test_under_truncate_what_fits_is_neither_cut_nor_flagged(encoder: PromptEncoder) -> None:
    assert encoder.encode_prefix("red", truncation="truncate").truncated is False
    assert ids(encoder.encode_prefix("red", truncation="truncate")) == ids(encoder.encode_prefix("red"))


def test_the_whole_is_limited_although_every_segment_fits() -> None:
    segments = [Segment(special=["[CLS]"]), Segment(field="a", max_tokens=5), Segment(field="b", keep="end")]
    encoder = made(
        prompt=Prompt(prefix=segments, item=[Segment(item=True), Segment(special=["[SEP]"])]),
        limits=Limits(max_prefix_tokens=6, max_item_tokens=2),
        embedding=None,
    )
    fields = {"a": "red red red red red", "b": "green blue"}
    with pytest.raises(LimitExceeded, match="prefix: 8 tokens with segment 'a', 'b', max_prefix_tokens is 6"):
        encoder.encode_prefix(fields)
    cut = encoder.encode_prefix(fields, truncation="truncate")
    assert ids(cut) == [CLS, RED, RED, RED, GREEN, BLUE]
    assert cut.truncated
    with pytest.raises(LimitExceeded, match="item 0: 3 tokens with segment 'item', max_item_tokens is 2"):
        encoded(encoder, ["red green"])
    assert ids(encoded(encoder, ["red green"], truncation="truncate")[0]) == [RED, SEP]


@pytest.mark.parametrize("truncation", ["error", "truncate"])
def test_a_prefix_of_token_ids_is_never_cut(encoder: PromptEncoder, truncation: Truncation) -> None:
    assert ids(encoder.encode_prefix([RED] * 8, truncation)) == [RED] * 8
    with pytest.raises(LimitExceeded, match=r"prefix: 9 token ids, max_prefix_tokens is 8: .* never cut"):
        encoder.encode_prefix([RED] * 9, truncation)


def test_an_unknown_truncation_is_refused(encoder: PromptEncoder) -> None:
    wrong: Any = "cut"
    with pytest.raises(InvalidRequest, match="truncation is 'cut'; give one of error, truncate"):
        encoder.encode_prefix("red", wrong)
    with pytest.raises(InvalidRequest, match="truncation is 'cut'; give one of error, truncate"):
        encoded(encoder, ["red"], wrong)


@settings(max_examples=scale(100))
@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 100))
def test_shares_fill_the_room_and_leave_short_segments_whole(lengths: list[int], room: int) -> None:
    shares = fair_shares(lengths, room)
    assert sum(shares) == min(room, sum(lengths))
    assert all(0 <= share <= length for share, length in zip(shares, lengths, strict=True))
    cut = [share for share, length in zip(shares, lengths, strict=True) if share < length]
    assert not cut or max(shares) - min(cut) <= 1


# --- the tokenizer --------------------------------------------------------------------------------------------------


def test_without_a_tokenizer_ids_are_taken_and_text_is_refused() -> None:
    prompt = Prompt(prefix=[Segment(field="query")], item=[Segment(item=True)])
    encoder = made(tokenized=False, prompt=prompt)
    assert ids(encoder.encode_prefix([RED])) == [RED]
    assert [ids(run) for run in encoded(encoder, [[RED], [GREEN]])] == [[RED], [GREEN]]
    with pytest.raises(InvalidRequest, match=r"prefix field 'query': .* no tokenizer: give token ids"):
        encoder.encode_prefix("red")
    with pytest.raises(InvalidRequest, match=r"item 1: .* no tokenizer: give token ids"):
        encoded(encoder, [[RED], "red"])


def test_a_token_that_the_model_has_no_row_for_is_refused() -> None:
    encoder = made(shape=ModelShape(hidden_size=4, vocab_size=VOCAB_SIZE - 1, layers=[]))
    with pytest.raises(InvalidRequest, match="item 1: holds token 13, 'redgreen', outside the model's"):
        encoded(encoder, ["red", "redgreen"])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"prompt": Prompt(prefix=[Segment(special=["[BOS]"])], item=[Segment(item=True)])},
            r"prompt\.prefix\[0\]\.special: '\[BOS\]' is not in the tokenizer's vocabulary",
        ),
        (
            {"prompt": Prompt(prefix=[], item=[Segment(text="redgreen"), Segment(item=True)])},
            r"prompt\.item\[0\]: token id 13 is outside the model's vocabulary of 13",
        ),
        (
            {"limits": Limits(max_prefix_tokens=2, max_item_tokens=6)},
            r"prompt\.prefix: literal segments have 3 tokens, which max_prefix_tokens 2 does not hold",
        ),
        (
            {"limits": Limits(max_prefix_tokens=8, max_item_tokens=1)},
            r"prompt\.item: literal segments have 1 tokens, which max_item_tokens 1 does not hold with 1 more",
        ),
        (
            {"limits": Limits(max_prefix_tokens=8, max_item_tokens=2)},
            r"embedding\.tokens: 2 and the prompt's 1 literal tokens exceed max_item_tokens 2",
        ),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused_on_loading(changes: dict[str, Any], complaint: str) -> None:
    small = ModelShape(hidden_size=4, vocab_size=13, layers=[])
    with pytest.raises(BundleError, match=complaint):
        made(shape=small, **changes)


def test_literals_without_a_tokenizer_are_refused_on_loading() -> None:
    with pytest.raises(BundleError, match=r"prompt\.prefix\[0\]: text and special need a tokenizer"):
        made(tokenized=False)
