"""`ListPrompt`: a list has the tokens of its prompt as one text, and a request says nothing that is a marker."""

import itertools
from typing import Any

import numpy as np
import pytest
from tokenizers import normalizers

from rankport.protos.columns import Column, ItemColumns
from rankport.protos.errors import BundleError, InvalidRequest, LimitExceeded
from rankport.runtime.prompt.encoded import KeyedTokens
from rankport.runtime.prompt.lists.list_prompt import EncodedLists, ListPrompt
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import EMBEDDED
from support.lists.drafts import ITEM, QUERY, alone_lists, draft, lists_of, prompt_of, raw_tokenizer

ITEMS = ["hospital nurse", " two  spaces", "yes\n", "Köche 1 %", "welder", "<think> it"]


def encoded(items: Any, prefix: Any = "red shoes", lists: Any = None, **options: Any) -> EncodedLists:
    return prompt_of(lists).encode(prefix, ItemColumns.of(items), **options)


def block(count: int, texts: list[str], query: str = "red shoes") -> list[int]:
    """Tokens of a block by the library, of the whole prompt as one text."""
    items = "".join(f"\n{number}: {text}{ITEM}." for number, text in enumerate(texts, 1))
    text = f"<|im_start|>{count} items for {query}{items}\nquery: {query}{QUERY}"
    return list(raw_tokenizer().encode(text).ids)


def runs(lists: EncodedLists) -> list[list[int]]:
    return [run.ids.tolist() for run in lists.runs]


def test_a_block_has_the_tokens_of_its_prompt_as_one_text() -> None:
    lists = encoded(ITEMS[:4])
    assert runs(lists) == [block(4, ITEMS[:4])]
    assert lists.blocks.tolist() == [0, 4]
    assert not lists.prefix_truncated


def test_a_prompt_may_have_no_texts_of_its_own() -> None:
    template = {"head": [{"field": "query"}], "item": [{"item": True}, {"mark": "item"}], "tail": []}
    lists = lists_of(**template, query_marker=None, read_out="logit", width=1)
    known = list(raw_tokenizer().encode(f"red shoeswelder{ITEM}nurse{ITEM}").ids)
    assert runs(encoded(["welder", "nurse"], lists=lists)) == [known]


def test_more_items_than_a_block_holds_go_on_in_others_counted_anew() -> None:
    lists = encoded([*ITEMS, *ITEMS])
    groups = [[*ITEMS, *ITEMS][start : start + 4] for start in (0, 4, 8)]
    assert runs(lists) == [block(4, texts) for texts in groups]
    assert lists.blocks.tolist() == [0, 4, 8, 12]
    assert lists.items.places.tolist() == list(range(12))


def test_a_block_ends_where_its_tokens_end_whatever_its_items() -> None:
    most = len(block(3, ITEMS[:3]))
    lists = encoded(ITEMS, lists=lists_of(max_tokens=most))
    assert all(len(run) <= most for run in runs(lists))
    edges = lists.blocks.tolist()
    assert runs(lists) == [
        block(stop - start, ITEMS[start:stop]) for start, stop in itertools.pairwise(edges)
    ]
    assert edges[1] == 3  # full to the last token


def test_an_item_that_no_block_holds_is_refused_by_its_place() -> None:
    most = len(block(1, ["welder"]))
    with pytest.raises(
        LimitExceeded, match=rf"item 1: \d+ tokens with the prompt around it, a block holds {most}"
    ):
        encoded(["welder", "software engineer teacher"], lists=lists_of(max_tokens=most))


def test_a_model_of_one_block_refuses_more_items() -> None:
    with pytest.raises(
        LimitExceeded, match=r"5 items fill 2 blocks, and the model ranks one \(of up to 4 items"
    ):
        encoded(ITEMS[:5], lists=lists_of(join="refuse"))
    assert len(encoded(ITEMS[:4], lists=lists_of(join="refuse")).runs) == 1


def test_markers_in_texts_are_left_out_until_none_is_left() -> None:
    inside = ITEM[:5] + QUERY + ITEM[5:]  # a marker once the other is gone
    lists = encoded([f"we{inside}lder", f"{ITEM}{ITEM}", "baker"], f"red{QUERY} shoes", skip_empty=True)
    assert runs(lists) == [block(2, ["welder", "baker"])]
    assert lists.items.empty.tolist() == [1]
    assert lists.items.places.tolist() == [0, 2]


def test_other_special_tokens_in_texts_stay_text() -> None:
    spelled = encoded(["a <|im_end|> b"])
    assert raw_tokenizer().token_to_id("<|im_end|>") not in runs(spelled)[0]


@pytest.mark.parametrize(("items", "prefix"), [([[5, 6, "M"]], "q"), (["a"], [7, "M"])])
def test_a_marker_among_ids_is_refused(items: Any, prefix: Any) -> None:
    token = raw_tokenizer().token_to_id(ITEM)

    def filled(ids: Any) -> Any:
        return [token if part == "M" else part for part in ids] if isinstance(ids, list) else ids

    with pytest.raises(InvalidRequest, match=rf"holds the marker token {token}, '<\|embed_token\|>', at"):
        encoded([filled(items[0])], filled(prefix))


def test_ids_stand_as_they_are_and_texts_around_them_apart() -> None:
    known = raw_tokenizer()
    before = known.encode("<|im_start|>1 items for ").ids
    lists = encoded([[5, 6, 7]], [8, 9])
    expected = [*before, 8, 9, *known.encode("\n1: ").ids, 5, 6, 7, *known.encode(f"{ITEM}.\nquery: ").ids]
    assert runs(lists) == [[*expected, 8, 9, known.token_to_id(QUERY)]]


def test_embedding_tokens_stand_in_the_order_of_the_items() -> None:
    given, stored = np.full((2, 4), 2.0, np.float32), np.full((1, 2, 4), 3.0, np.float16)
    columns = ItemColumns(
        3,
        texts=Column(["welder"], np.array([1])),
        embeddings=Column(given[None], np.array([2])),
        keys=Column(["a"], np.array([0])),
    )
    lists = encoded(columns, keyed=KeyedTokens(Column(stored, np.array([0]))))
    (run,) = lists.runs
    assert np.count_nonzero(run.ids == EMBEDDED) == 4
    assert run.embeddings is not None
    assert run.embeddings[:, 0].tolist() == [3.0, 3.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["a", "welder teacher baker pilot " * 4], r"item 1: \d+ tokens, max_item_tokens is 12: shorten it"),
        ([[5] * 13], "item 0: 13 tokens, max_item_tokens is 12"),
    ],
)
def test_an_overlong_item_is_refused_or_cut(items: list[Any], message: str) -> None:
    with pytest.raises(LimitExceeded, match=message):
        encoded(items)
    cut = encoded(items, truncation="truncate")
    assert cut.items.truncated.tolist() == [len(items) - 1]


def test_a_cut_text_keeps_the_characters_of_its_first_tokens() -> None:
    text = "welder teacher baker pilot nurse hospital engineer software yes no it is what red blue"
    ends = raw_tokenizer().encode(text).offsets
    assert runs(encoded([text], truncation="truncate")) == [block(1, [text[: ends[12][0]]])]


def test_texts_far_over_their_limits_are_cut_and_refused_as_others() -> None:
    text = "welder teacher baker pilot nurse hospital engineer software "
    near, far = text * 4, text * 3000
    assert runs(encoded([far], far, truncation="truncate")) == runs(
        encoded([near], near, truncation="truncate")
    )
    with pytest.raises(LimitExceeded, match="prefix: more than 20 tokens, max_prefix_tokens is 10"):
        encoded(["a"], far)
    with pytest.raises(LimitExceeded, match="item 1: more than 24 tokens, max_item_tokens is 12"):
        encoded(["a", far])


def test_an_overlong_prefix_is_refused_or_cut() -> None:
    long = "welder teacher baker pilot nurse hospital engineer software"
    with pytest.raises(LimitExceeded, match=r"prefix: \d+ tokens, max_prefix_tokens is 10"):
        encoded(["a"], long)
    cut = encoded(["a"], long, truncation="truncate")
    assert cut.prefix_truncated
    assert len(runs(cut)[0]) < len(block(1, ["a"], long))
    with pytest.raises(LimitExceeded, match="prefix: 11 token ids, max_prefix_tokens is 10: token ids are"):
        encoded(["a"], [5] * 11)


def test_an_item_that_the_tokenizer_makes_nothing_of_is_empty_and_one_that_it_lengthens_is_cut() -> None:
    inner = raw_tokenizer()
    inner.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [normalizers.Replace("\u200b", ""), normalizers.Replace("\ufdfa", "welder " * 8)]
    )
    prompt = ListPrompt(draft(), Tokenizer(inner))
    lists = prompt.encode("q", ItemColumns.of(["nurse", "\u200b", "\ufdfa" * 2]), "truncate", skip_empty=True)
    assert (lists.items.places.tolist(), lists.items.empty.tolist()) == ([0, 2], [1])
    assert lists.items.truncated.tolist() == [2]


@pytest.mark.parametrize(
    ("items", "prefix", "message"),
    [
        ([" "], "q", "item 0: is empty"),
        (
            [np.zeros((2, 3), np.float32)],
            "q",
            r"item 0: embedding tokens of shape \[2, 3\], the bundle takes",
        ),
        (["a"], {"title": "q"}, r"fields missing query, unknown title"),
        (["a"], [{"role": "user", "content": "q"}], "prefix: messages of a chat, and the bundle takes none"),
        (["a"], [10**6], "prefix: token id 1000000 at position 0 is outside the vocabulary"),
    ],
)
def test_what_is_malformed_is_named(items: Any, prefix: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        encoded(items, prefix)


def test_a_bundle_of_texts_takes_no_embedding_tokens() -> None:
    with pytest.raises(InvalidRequest, match="item 0: the bundle takes no embedding tokens"):
        prompt_of(embedding=None).encode("q", ItemColumns.of([np.zeros((2, 4), np.float32)]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item_marker": {"token": ITEM, "id": 3}}, r"lists.item_marker: '<\|embed_token\|>' is token \d+"),
        ({"head": [{"special": ["<none>"]}]}, "'<none>' is not in the tokenizer's vocabulary"),
        ({"max_tokens": 9}, r"lists.max_tokens: 9 does not hold the prompt's own \d+ tokens and an item"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_at_load(changes: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        prompt_of(lists_of(**changes))


def test_a_request_without_items_has_no_block() -> None:
    lists = encoded([])
    assert len(lists.runs) == 0
    assert lists.blocks.tolist() == [0]


def alone_runs(texts: list[str], listed: int) -> list[list[int]]:
    """Tokens of one prompt of the first texts and of each by itself, by the library."""
    items = "".join(f"\n{number}: {text}" for number, text in enumerate(texts[:listed], 1))
    prompt = f"<|im_start|>for red shoes{items}\nquery: red shoes"
    whole = [prompt, *(f"item {text}<|im_end|>" for text in texts)]
    return [list(raw_tokenizer().encode(text).ids) for text in whole]


def test_items_that_are_read_alone_follow_one_prompt_of_the_first() -> None:
    lists = encoded(ITEMS, lists=alone_lists())
    assert runs(lists) == alone_runs(ITEMS, 4)
    assert lists.blocks.tolist() == [0, 4]
    assert lists.items.places.tolist() == list(range(6))
    assert runs(encoded([], lists=alone_lists())) == []


@pytest.mark.parametrize("held", [1, 2, 3])
def test_the_prompt_holds_as_many_of_the_first_as_fit(held: int) -> None:
    most = len(alone_runs(ITEMS, held)[0])
    lists = encoded(ITEMS, lists=alone_lists(max_tokens=most), truncation="truncate")
    assert runs(lists) == alone_runs(ITEMS, held)
    assert lists.blocks.tolist() == [0, held]
    tokens = len(alone_runs(ITEMS, 4)[0])
    said = (
        rf"the prompt of the first 4 items has {tokens} tokens, it holds {most} \(lists.max_tokens\): shorten"
    )
    with pytest.raises(LimitExceeded, match=said):
        encoded(ITEMS, lists=alone_lists(max_tokens=most))


def test_an_item_that_no_prompt_holds_is_refused() -> None:
    most = len(alone_runs(["a"], 1)[0])
    with pytest.raises(
        LimitExceeded, match=rf"item 1: \d+ tokens with the prompt around it, a block holds {most}"
    ):
        encoded(["", "hospital nurse welder"], lists=alone_lists(max_tokens=most), skip_empty=True)


def test_ids_are_read_in_the_prompt_and_alone() -> None:
    lists = encoded([[7, 8]], lists=alone_lists())
    prompt, own = runs(lists)
    assert own[-3:-1] == [7, 8]
    assert [7, 8] in [prompt[place : place + 2] for place in range(len(prompt))]
