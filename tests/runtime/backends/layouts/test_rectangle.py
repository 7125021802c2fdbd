"""A ragged batch as a rectangle: every token in its place, short items beside each other in a row, padding unseen."""

import gc
import weakref
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.rectangle import ROW_TOKENS, UNSEEN, Rectangle, rectangle, with_tokens
from rankport.runtime.backends.layouts.sizes import PassSizes
from rankport.runtime.tokens import EMBEDDED, TokenRun
from support.effort import scale


class Past:
    """Stands for KV: a rectangle asks for its length alone."""

    def __init__(self, length: int) -> None:
        self.length, self.nbytes = length, 0


def batch(*prefixes: tuple[int, list[list[int]]]) -> PrefixBatch:
    """Lists each prefix with its length and its items."""
    owners = [row for row, (_, items) in enumerate(prefixes) for _ in items]
    return PrefixBatch.of(
        tuple((Past(length),) if length else () for length, _ in prefixes),
        tuple(TokenRun(np.array(item)) for _, items in prefixes for item in items),
        np.array(owners),
    )


def laid_out(pass_: PrefixBatch) -> Rectangle:
    return rectangle(pass_, EmbeddingsForm(2))


def arrays(layout: Rectangle, sizes: PassSizes) -> dict[str, np.ndarray]:
    return {name: value.array() for name, value in layout.inputs(sizes).items()}


def test_short_items_share_rows_and_long_ones_have_rows_of_their_own() -> None:
    short = laid_out(batch((60, [[1, 2]] * 250))).sizes
    assert (short.rows, short.row_tokens) == (2, 250)
    long = laid_out(batch((50, [[7] * 150] * 50))).sizes
    assert (long.rows, long.row_tokens) == (50, 150)
    one = laid_out(batch((50, [[7] * 3000]))).sizes
    assert (one.rows, one.row_tokens) == (1, 3000)


def test_of_a_graph_that_tells_items_apart_rows_are_whole_items_and_places_say_which_token_is_there() -> None:
    layout = rectangle(batch((3, [[5, 6], [7]]), (1, [[8, 9, 4]])), EmbeddingsForm(2), by_item=True)
    sizes = layout.rounded_sizes()
    assert (sizes.rows, sizes.row_items, sizes.row_tokens) == (1, 2, 8)
    inputs = arrays(layout, sizes)
    assert inputs["item_places"].tolist() == [
        [[0, 1, -1, -1], [0, -1, -1, -1]],
        [[0, 1, 2, -1], [-1, -1, -1, -1]],
    ]
    assert inputs["input_ids"].tolist() == [[[5, 6, 0, 0, 7, 0, 0, 0]], [[8, 9, 4, 0, 0, 0, 0, 0]]]
    blocks = np.kron(np.eye(2), np.tril(np.ones((4, 4)))).astype(bool)
    np.testing.assert_array_equal(inputs["own_mask"] == 0, blocks)
    alone = rectangle(batch((0, [[5] * 150] * 3)), EmbeddingsForm(2), by_item=True)
    padded = alone.rounded_sizes()
    assert (padded.rows, padded.row_items, padded.row_tokens) == (3, 1, 152)
    assert arrays(alone, padded)["item_places"].shape == (1, 3, 152)


@given(st.integers(1, 600), st.integers(1, 300))
def test_rounding_leaves_rows_of_several_whole_items_as_they_are(items: int, length: int) -> None:
    layout = rectangle(batch((1, [[1] * length] * items)), EmbeddingsForm(2), by_item=True)
    sizes = layout.sizes
    assert sizes.rows * sizes.row_items >= items
    assert (sizes.rows - 1) * sizes.row_items < items
    assert sizes.row_tokens % sizes.row_items == 0
    if sizes.row_items > 1:
        assert sizes.row_tokens <= ROW_TOKENS
        assert layout.rounded_sizes().row_tokens == sizes.row_tokens
    # Padding costs an item at most seven others, or each seven places.
    assert sizes.rows * sizes.row_tokens <= 2 * max(items * length, ROW_TOKENS)
    places = arrays(layout, layout.rounded_sizes())["item_places"]
    assert (places >= 0).sum() == items * length


def test_of_a_graph_that_takes_lengths_a_row_holds_one_item_and_added_rows_one_token() -> None:
    layout = rectangle(batch((3, [[5, 6], [7]]), (1, [[8, 9]])), EmbeddingsForm(2), by_length=True)
    assert (layout.sizes.rows, layout.sizes.row_tokens) == (2, 2)
    sizes = PassSizes(prefixes=3, rows=2, row_tokens=3, past=4, tokens=18, items_total=4, embedding_count=1)
    inputs = arrays(layout, sizes)
    assert inputs["input_ids"].tolist()[:2] == [[[5, 6, 0], [7, 0, 0]], [[8, 9, 0], [0, 0, 0]]]
    assert inputs["last_tokens"].tolist() == [1, 3, 7, 0]
    assert inputs["past_lengths"].tolist() == [3, 1, 0]
    assert inputs["row_lengths"].tolist() == [[2, 1], [2, 1], [1, 1]]
    # Of several layers, or states that are averaged, the graph of prefixes takes masks all the same.
    assert (inputs["past_mask"] == 0).tolist() == [[True] * 3 + [False], [True] + [False] * 3, [False] * 4]
    assert (inputs["own_mask"] == 0).tolist() == np.tri(3, dtype=bool).tolist()


def test_a_token_sees_its_own_item_up_to_itself_and_padding_sees_nothing_real() -> None:
    layout = laid_out(batch((3, [[5, 6], [7]]), (1, [[8, 9]])))
    sizes = PassSizes(prefixes=3, rows=1, row_tokens=6, past=4, tokens=18, items_total=4, embedding_count=1)
    inputs = arrays(layout, sizes)
    assert inputs["input_ids"].tolist()[:2] == [[[5, 6, 7, 0, 0, 0]], [[8, 9, 0, 0, 0, 0]]]
    assert inputs["position_ids"].tolist()[:2] == [[[3, 4, 3, 0, 0, 0]], [[1, 2, 0, 0, 0, 0]]]
    assert inputs["last_tokens"].tolist() == [1, 2, 7, 0]
    assert (inputs["past_mask"] == 0).tolist() == [[True] * 3 + [False], [True] + [False] * 3, [False] * 4]
    visible = inputs["own_mask"] == 0
    blocks = np.kron(np.eye(3), np.tril(np.ones((2, 2)))).astype(bool)
    np.testing.assert_array_equal(visible, blocks)
    assert set(np.unique(inputs["own_mask"])) == {0.0, np.float32(UNSEEN)}


def test_embeddings_keep_their_order() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    runs = (
        TokenRun(np.array([EMBEDDED, 4]), rows[:1]),
        TokenRun(np.array([5])),
        TokenRun(np.array([EMBEDDED, EMBEDDED]), rows[1:]),
    )
    layout = laid_out(PrefixBatch.of(((),), runs, np.zeros(3, np.int64)))
    inputs = arrays(layout, layout.sizes)
    assert inputs["embedding_rows"].tolist() == [[[0, -1, -1, -1, 1, 2]]]
    np.testing.assert_array_equal(inputs["embeddings"], rows)
    assert layout.sizes.embedding_count == 3


@settings(max_examples=scale(80), deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.lists(st.integers(1, 40), min_size=1, max_size=30)),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 5),
    st.sampled_from(["masks", "lengths", "items", "apart"]),
)
def test_every_token_is_found_at_its_place(sizes: list[tuple[int, list[int]]], more: int, form: str) -> None:
    token = iter(range(1, 10_000))
    items = [(past, [[next(token) for _ in range(length)] for length in lengths]) for past, lengths in sizes]
    layout = rectangle(
        replace(batch(*items), apart=form == "apart"),
        EmbeddingsForm(2),
        by_length=form == "lengths",
        by_item=form == "items",
    )
    least = layout.sizes
    if form in ("lengths", "apart"):
        assert least.rows == max(len(lengths) for _, lengths in sizes)
    assert least.row_tokens <= max(ROW_TOKENS, max(max(lengths) for _, lengths in sizes))
    shape = with_tokens(
        replace(
            least,
            prefixes=least.prefixes + more,
            rows=least.rows + more,
            row_tokens=least.row_tokens + (0 if form == "items" else more),
            past=least.past + more,
            items_total=least.items_total + more,
        )
    )
    if form == "items" and more % 2:
        shape = layout.rounded_sizes()
    inputs = arrays(layout, shape)
    ids, positions = inputs["input_ids"].reshape(-1), inputs["position_ids"].reshape(-1)
    own, last = inputs["own_mask"] == 0, iter(inputs["last_tokens"])
    for row, (past, runs) in enumerate(items):
        assert (inputs["past_mask"][row] == 0).sum() == past
        for run in runs:
            end = int(next(last))
            start = end - len(run) + 1
            assert ids[start : end + 1].tolist() == run
            assert positions[start : end + 1].tolist() == list(range(past, past + len(run)))
            assert start // (shape.rows * shape.row_tokens) == row
            place = start % shape.row_tokens
            if form == "lengths":
                assert inputs["row_lengths"].reshape(-1)[start // shape.row_tokens] == len(run)
            if form == "items":
                places = inputs["item_places"].reshape(-1)[start : end + 1]
                assert places.tolist() == list(range(len(run)))
            for offset in range(len(run)):
                seen = np.flatnonzero(own[place + offset])
                assert seen.tolist() == list(range(place, place + offset + 1))
    assert (ids != 0).sum() == sum(len(run) for _, runs in items for run in runs)


def test_long_items_of_lengths_that_are_rounded_alike_have_one_mask_and_few_are_kept() -> None:
    """A mask of 4,096 tokens has 64 MiB: one for each length that ever came would fill the host."""

    def mask_of(length: int) -> np.ndarray:
        layout = laid_out(batch((2, [[7] * length, [7] * (length - 3)])))
        return layout.inputs(layout.rounded_sizes())["own_mask"].parts[0]

    whole = mask_of(1000)
    assert all(mask_of(length) is whole for length in (993, 1000, 1024 - 20))
    np.testing.assert_array_equal(whole == 0, np.tri(len(whole), dtype=bool))
    kept = [weakref.ref(whole), *(weakref.ref(mask_of(length)) for length in range(600, 1100, 32))]
    del whole
    gc.collect()
    assert sum(mask() is not None for mask in kept) < 6
