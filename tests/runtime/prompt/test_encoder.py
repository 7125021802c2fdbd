"""`PromptEncoder`: requests become exactly the ids that the prompt says, or an error that names the value."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.protos.errors import BundleError, InvalidRequest, LimitExceeded
from rankport.protos.types import Key, Truncation
from rankport.runtime.bundle.manifest import Limits, ModelShape, Prompt, Segment
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.encoder import EncodedPrefix, PromptEncoder
from rankport.runtime.prompt.template import fair_shares
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import EMBEDDED, TokenRun
from support.bundle_samples import (
    ENCODER_FILES,
    RANKER_FILES,
    VOCAB_SIZE,
    encoder_draft,
    ranker_draft,
    tokenizer_json,
    write_directory,
)
from support.effort import scale

CLS, SEP, QUERY, COLON, RED, GREEN, BLUE, SHOES = 1, 2, 4, 5, 6, 7, 8, 9


@pytest.fixture
def encoder(tmp_path: Path) -> PromptEncoder:
    """[CLS] "query :" query (at most 4, its end) | item (at most 4) [SEP]; prefix at most 8, item at most 6."""
    return PromptEncoder.from_bundle(open_bundle(write_directory(tmp_path, ranker_draft(), RANKER_FILES)))


def made(tokenized: bool = True, **changes: object) -> PromptEncoder:
    """An encoder of a changed sample ranker."""
    inner = tokenizers.Tokenizer.from_str(tokenizer_json().decode())
    return PromptEncoder(ranker_draft(**changes), Tokenizer(inner) if tokenized else None)


@dataclass(frozen=True)
class Encoded:
    """An item by itself, as a prefix is."""

    run: TokenRun
    truncated: bool


def encoded(encoder: PromptEncoder, items: Any, truncation: Truncation = "error") -> list[Encoded]:
    """Each item of a request by itself."""
    result = encoder.encode_items(items, truncation)
    assert result.places.tolist() == list(range(len(result.runs)))
    cut = set(result.truncated.tolist())
    return [Encoded(run, place in cut) for place, run in enumerate(result.runs)]


def ids(run: EncodedPrefix | Encoded) -> list[int]:
    assert run.run.ids.dtype == np.int64
    return [int(token) for token in run.run.ids]


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
        ({}, r"missing \['query'\], unknown \[\]"),
        ({"query": "red", "user": "x"}, r"missing \[\], unknown \['user'\].* has \['query'\]"),
        ({"query": 3}, "prefix field 'query' is a int; give text"),
        ("red \ud800", r"prefix field 'query': '\\ud800' at character 4 is half of a character"),
        ([RED, -1], "prefix: token id -1 at position 1 is outside the vocabulary: must be 0 to 13"),
        ([VOCAB_SIZE], "prefix: token id 14 at position 0 is outside the vocabulary: must be 0 to 13"),
        ([RED, True], "prefix: token id True at position 1 is a bool"),
        (["red"], "prefix: token id 'red' at position 0 is a str"),
        (b"red", "prefix is a bytes; give text, fields"),
        (7, "prefix is a int"),
        (None, "prefix is a NoneType"),
    ],
)
def test_a_malformed_prefix_is_refused_by_value(encoder: PromptEncoder, prefix: Any, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        encoder.encode_prefix(prefix)


def test_a_str_for_several_fields_is_refused_with_their_names() -> None:
    segments = [Segment(field="a"), Segment(field="b")]
    with pytest.raises(InvalidRequest, match=r"the fields \['a', 'b'\]: give each by name \(--field"):
        made(prompt=Prompt(prefix=segments, item=[Segment(item=True)])).encode_prefix("red")


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


def test_only_the_item_over_its_limit_is_flagged(encoder: PromptEncoder) -> None:
    runs = encoded(encoder, ["red", "red green blue shoes boots", [RED] * 5], truncation="truncate")
    assert [run.truncated for run in runs] == [False, True, True]
    assert [ids(run) for run in runs] == [[RED, SEP], [RED, GREEN, BLUE, SHOES, SEP], [RED] * 4 + [SEP]]


def test_a_long_item_is_an_error_that_names_index_segment_and_limit(encoder: PromptEncoder) -> None:
    with pytest.raises(LimitExceeded, match="item 1: segment 'item' has 5 tokens, its max_tokens is 4"):
        encoded(encoder, ["red", [RED] * 5])


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
    with pytest.raises(InvalidRequest, match="truncation 'cut': must be one of"):
        encoder.encode_prefix("red", wrong)
    with pytest.raises(InvalidRequest, match="truncation 'cut': must be one of"):
        encoded(encoder, ["red"], wrong)


@settings(max_examples=scale(100), deadline=None)
@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 100))
def test_shares_fill_the_room_and_leave_short_segments_whole(lengths: list[int], room: int) -> None:
    shares = fair_shares(lengths, room)
    assert sum(shares) == min(room, sum(lengths))
    assert all(0 <= share <= length for share, length in zip(shares, lengths, strict=True))
    cut = [share for share, length in zip(shares, lengths, strict=True) if share < length]
    assert not cut or max(shares) - min(cut) <= 1


# --- items ----------------------------------------------------------------------------------------------------------


def test_text_ids_and_embeddings_fill_the_item_segment(encoder: PromptEncoder) -> None:
    rows = np.arange(8, dtype=np.float16).reshape(2, 4)
    text, tokens, embedded, array = encoded(encoder, ["red shoes", [RED, SHOES], rows, np.array([RED])])
    assert ids(text) == ids(tokens) == [RED, SHOES, SEP]
    assert ids(array) == [RED, SEP]
    assert ids(embedded) == [EMBEDDED, EMBEDDED, SEP]
    assert embedded.run.embeddings is not None
    np.testing.assert_array_equal(embedded.run.embeddings, rows)
    assert text.run.embeddings is tokens.run.embeddings is None


def test_segments_of_an_item_stand_around_every_form() -> None:
    segments = [Segment(text="blue"), Segment(item=True), Segment(special=["[SEP]", "[SEP]"])]
    encoder = made(prompt=Prompt(prefix=[], item=segments))
    forms = encoded(encoder, ["red", [GREEN], np.zeros((2, 4), np.float32)])
    assert [ids(run) for run in forms] == [
        [BLUE, RED, SEP, SEP],
        [BLUE, GREEN, SEP, SEP],
        [BLUE, EMBEDDED, EMBEDDED, SEP, SEP],
    ]


def test_many_items_keep_their_order(encoder: PromptEncoder) -> None:
    words = {"red": RED, "green": GREEN, "blue": BLUE}
    items = [word if index % 3 else [words[word]] for index, word in enumerate([*words] * 200)]
    assert [ids(run)[0] for run in encoded(encoder, items)] == [*words.values()] * 200
    assert encoded(encoder, []) == []


def test_an_item_encoder_takes_items_and_no_embeddings(tmp_path: Path) -> None:
    root = write_directory(tmp_path, encoder_draft(), ENCODER_FILES)
    encoder = PromptEncoder.from_bundle(open_bundle(root))
    assert ids(encoded(encoder, ["red shoes"])[0]) == [CLS, RED, SHOES, SEP]
    assert encoder.fields == ()
    with pytest.raises(InvalidRequest, match="item 0: the bundle takes no embedding tokens"):
        encoded(encoder, [np.zeros((1, 4), np.float32)])


def test_later_writes_of_the_caller_do_not_reach_the_run(encoder: PromptEncoder) -> None:
    rows = np.ones((2, 4), np.float32)
    tokens: Any = np.array([RED, RED])
    embedded, plain = encoded(encoder, [rows, tokens])
    prefix = encoder.encode_prefix(tokens)
    rows[:], tokens[:] = 0, GREEN
    assert embedded.run.embeddings is not None
    assert embedded.run.embeddings.min() == 1
    assert ids(plain) == [RED, RED, SEP]
    assert ids(prefix) == [RED, RED]


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (np.zeros((3, 4)), r"item 1: embedding tokens of shape \[3, 4\], the bundle takes \[2, 4\]"),
        (np.zeros((2, 5)), r"item 1: embedding tokens of shape \[2, 5\]"),
        (np.zeros(8), r"item 1: embedding tokens of shape \[8\]"),
        (np.full((2, 4), np.nan), r"item 1: embedding tokens hold nan at \[0, 0\]"),
        (np.array([[0, 0, 0, 0], [0, np.inf, 0, 0.0]]), r"item 1: embedding tokens hold inf at \[1, 1\]"),
        (np.full((2, 4), 1e300), r"item 1: embedding tokens hold 1e\+300 at \[0, 0\]"),
        (np.zeros((2, 4), np.complex64), "item 1 is an array of complex64"),
        (np.zeros((2, 4), np.int64), r"item 1: an array of dtype int64 and shape \[2, 4\]"),
        (np.array([True]), "item 1 is an array of bool"),
        (np.array(["red"]), "item 1 is an array of <U3"),
        (np.array([RED, 14]), "item 1: token id 14 at position 1 is outside the vocabulary: must be 0 to 13"),
        (np.array([2**63], np.uint64), "item 1: token id 9223372036854775808 at position 0"),
        ([RED, -1], "item 1: token id -1 at position 1 is outside the vocabulary"),
        ([2**70], "item 1: token id 1180591620717411303424 at position 0 is outside"),
        ([False], "item 1: token id False at position 0 is a bool"),
        ([0.5], "item 1: token id 0.5 at position 0 is a float"),
        ([[0.5] * 4] * 2, r"item 1: token id \[0.5, 0.5, 0.5, 0.5\] at position 0 is a list"),
        ("\udfff", "item 1: .* is half of a character"),
        (Key("42"), "item 1 is a Key; give text or token ids"),
        (None, "item 1 is a NoneType; give text"),
        (b"red", "item 1 is a bytes"),
    ],
)
def test_a_malformed_item_is_refused_by_index_and_value(
    encoder: PromptEncoder, item: Any, complaint: str
) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        encoded(encoder, ["red", item])


@pytest.mark.parametrize("items", ["red", b"red"])
def test_one_text_in_place_of_a_list_is_refused(encoder: PromptEncoder, items: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"items is a (str|bytes); give a list of items"):
        encoded(encoder, items)


@pytest.mark.parametrize("item", ["", "  ", [], np.array([], np.int64)])
def test_an_item_without_a_token_is_refused(item: Any) -> None:
    bare = made(prompt=Prompt(prefix=[], item=[Segment(item=True)]))
    with pytest.raises(InvalidRequest, match="item 1: has no token"):
        encoded(bare, ["red", item])


def test_an_empty_item_inside_a_template_still_has_tokens(encoder: PromptEncoder) -> None:
    assert ids(encoded(encoder, [""])[0]) == [SEP]


@pytest.mark.parametrize("truncation", ["error", "truncate"])
def test_embedding_tokens_are_never_cut(truncation: Truncation) -> None:
    template = Prompt(prefix=[], item=[Segment(text="red green"), Segment(item=True, max_tokens=1)])
    encoder = made(prompt=template, limits=Limits(max_prefix_tokens=0, max_item_tokens=4))
    run = encoded(encoder, [np.zeros((2, 4), np.float32)], truncation)[0]
    assert ids(run) == [RED, GREEN, EMBEDDED, EMBEDDED]
    assert not run.truncated


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


def test_threads_share_one_encoder(encoder: PromptEncoder) -> None:
    requests: list[list[Any]] = [["red green", [RED], "blue"] * size for size in range(1, 20)]
    alone = [[ids(run) for run in encoded(encoder, items)] for items in requests]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(partial(encoded, encoder), requests))
    assert [[ids(run) for run in runs] for runs in together] == alone


def test_many_embedding_items_are_read_as_each_alone(encoder: PromptEncoder) -> None:
    rng = np.random.default_rng(3)
    items = [rng.standard_normal((2, 4)).astype(dtype) for dtype in (np.float16, np.float32) * 3]
    together = encoded(encoder, items)
    for item, run in zip(items, together, strict=True):
        alone = encoded(encoder, [item])[0].run
        np.testing.assert_array_equal(run.run.ids, alone.ids)
        assert run.run.embeddings is not None
        np.testing.assert_array_equal(run.run.embeddings, alone.embeddings)
    before = together[1].run.embeddings.copy()  # type: ignore[union-attr]
    items[1][:] = 0  # the caller's own array
    np.testing.assert_array_equal(together[1].run.embeddings, before)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[:, :-1], r"item 3: embedding tokens of shape"),
        (
            lambda rows: np.where(np.arange(rows.size).reshape(rows.shape) == 1, np.nan, rows),
            r"item 3: .* hold nan",
        ),
        (lambda rows: rows.astype(np.float64) * 1e300, r"item 3: .* must be finite in float32"),
    ],
)
def test_one_bad_embedding_item_of_many_is_named(
    encoder: PromptEncoder, spoil: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    items = [np.ones((2, 4), np.float32) for _ in range(5)]
    items[3] = spoil(items[3])
    with pytest.raises(InvalidRequest, match=message):
        encoded(encoder, items)
