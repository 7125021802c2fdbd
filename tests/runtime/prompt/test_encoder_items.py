"""`PromptEncoder` and its items: every form becomes exactly the ids that the prompt says, or a named error."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from rankport.protos.errors import InvalidRequest, LimitExceeded
from rankport.protos.types import Key, Truncation
from rankport.runtime.bundle.manifest import Limits, Prompt, Segment
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import EMBEDDED
from support.bundle_samples import (
    ENCODER_FILES,
    encoder_draft,
    ranker_draft,
    tokenizer_json,
    write_directory,
)
from support.prompt_encoders import BLUE, CLS, GREEN, RED, SEP, SHOES, encoded, ids, made


def test_only_the_item_over_its_limit_is_flagged(encoder: PromptEncoder) -> None:
    runs = encoded(encoder, ["red", "red green blue shoes boots", [RED] * 5], truncation="truncate")
    assert [run.truncated for run in runs] == [False, True, True]
    assert [ids(run) for run in runs] == [[RED, SEP], [RED, GREEN, BLUE, SHOES, SEP], [RED] * 4 + [SEP]]


def test_a_long_item_is_an_error_that_names_index_segment_and_limit(encoder: PromptEncoder) -> None:
    with pytest.raises(LimitExceeded, match="item 1: segment 'item' has 5 tokens, its max_tokens is 4"):
        encoded(encoder, ["red", [RED] * 5])


def test_an_error_has_the_places_of_all_long_items(encoder: PromptEncoder) -> None:
    long = "red green blue shoes boots"
    with pytest.raises(LimitExceeded, match="item 1: ") as error:
        encoded(encoder, ["red", long, "shoes", long, long])
    assert error.value.places == (1, 3, 4)


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
        (None, "item 1 is None; give text"),
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
    with pytest.raises(InvalidRequest, match="item 1: is empty: it has no token of its own"):
        encoded(bare, ["red", item])


@pytest.mark.parametrize("truncation", ["error", "truncate"])
def test_empty_items_are_told_apart_where_they_are_to_be_skipped(
    encoder: PromptEncoder, truncation: Truncation
) -> None:
    items = ["", "red", [], " \n", [GREEN], "blue"]
    result = encoder.encode_items(items, truncation, skip_empty=True)
    assert [run.ids.tolist() for run in result.runs] == [[RED, SEP], [GREEN, SEP], [BLUE, SEP]]
    assert result.places.tolist() == [1, 4, 5]
    assert result.empty.tolist() == [0, 2, 3]
    assert len(encoder.encode_items(["", []], skip_empty=True).runs) == 0


@pytest.mark.parametrize(
    "before", [[], [Segment(text="red ")], [Segment(special=["[SEP]"]), Segment(text="blue ")]]
)
@pytest.mark.parametrize("truncation", ["error", "truncate"])
def test_a_text_that_the_tokenizer_makes_nothing_of_is_empty(
    before: list[Segment], truncation: Truncation
) -> None:
    inner = tokenizers.Tokenizer.from_str(tokenizer_json().decode())
    inner.normalizer = tokenizers.normalizers.BertNormalizer()  # type: ignore[assignment]
    item = [*before, Segment(item=True, joined=bool(before), max_tokens=2)]
    encoder = PromptEncoder(ranker_draft(prompt=Prompt(prefix=[], item=item)), Tokenizer(inner))
    items = ["red", "\u200b", "red", [GREEN], "\x00"]  # spaces of no width, and what is no text
    result = encoder.encode_items(items, truncation, skip_empty=True)
    assert (result.places.tolist(), result.empty.tolist()) == ([0, 2, 3], [1, 4])
    assert [run.ids.tolist()[-1] for run in result.runs] == [RED, RED, GREEN]
    with pytest.raises(InvalidRequest, match="item 1: is empty"):
        encoder.encode_items(items, truncation)


@pytest.mark.parametrize("truncation", ["error", "truncate"])
def test_embedding_tokens_are_never_cut(truncation: Truncation) -> None:
    template = Prompt(prefix=[], item=[Segment(text="red green"), Segment(item=True, max_tokens=1)])
    encoder = made(prompt=template, limits=Limits(max_prefix_tokens=0, max_item_tokens=4))
    run = encoded(encoder, [np.zeros((2, 4), np.float32)], truncation)[0]
    assert ids(run) == [RED, GREEN, EMBEDDED, EMBEDDED]
    assert not run.truncated


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
