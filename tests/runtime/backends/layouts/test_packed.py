"""Tokens without padding, found at their places again, and the short way to lay out a token of each prefix."""

from dataclasses import replace
from itertools import count

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.packed import pack, step_inputs
from rankport.runtime.tokens import EMBEDDED, TokenRun
from support.effort import scale


class Past:
    """Stands for KV: a layout asks for its length alone."""

    def __init__(self, length: int) -> None:
        self.length, self.nbytes = length, 0


def test_a_token_of_each_prefix_is_laid_out_as_any_run() -> None:
    lengths, tokens = np.array([4, 0, 9]), np.array([7, 5, 6])
    prefixes = tuple((Past(length),) if length else () for length in lengths.tolist())
    batch = PrefixBatch.of(
        prefixes, tuple(TokenRun(tokens[place : place + 1]) for place in range(3)), np.arange(3)
    )
    packed = pack(batch, EmbeddingsForm(8))
    expected = {name: value.array() for name, value in packed.inputs(packed.sizes).items()}
    inputs = step_inputs(tokens, lengths)
    assert expected.keys() - inputs.keys() == {"embeddings", "embedding_rows"}
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
        assert array.shape == expected[name].shape


@settings(max_examples=scale(60), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 5), max_size=2),  # lengths of a prefix's pieces
            st.lists(
                st.lists(st.booleans(), min_size=1, max_size=6), max_size=5
            ),  # items: is it an embedding
        ),
        min_size=1,
        max_size=4,
    ).filter(lambda prefixes: any(items for _, items in prefixes)),
    st.integers(0, 3),
    st.booleans(),
)
def test_every_token_is_found_at_its_place_and_padding_shows_nothing_of_another_item(
    prefixes: list[tuple[list[int], list[list[bool]]]], more: int, every_token: bool
) -> None:
    token, row = count(1), count()
    items = [
        (place, [EMBEDDED if embedded else next(token) for embedded in item])
        for place, (_, listed) in enumerate(prefixes)
        for item in listed
    ]
    rows = np.arange(2 * sum(ids.count(EMBEDDED) for _, ids in items), dtype=np.float32).reshape(-1, 2)
    runs = []
    for _, ids in items:
        own = [next(row) for _ in range(ids.count(EMBEDDED))]
        runs.append(TokenRun(np.array(ids), rows[own] if own else None))
    pieces = tuple(tuple(map(Past, lengths)) for lengths, _ in prefixes)
    batch = replace(
        PrefixBatch.of(pieces, runs, np.array([place for place, _ in items])), every_token=every_token
    )
    packed = pack(batch, EmbeddingsForm(2))
    larger = {
        name: getattr(packed.sizes, name) + more
        for name in ("prefixes", "rows", "row_tokens", "past", "tokens", "items_total", "embedding_count")
    }
    sizes = replace(packed.sizes, **larger)
    inputs = {name: value.array() for name, value in packed.inputs(sizes).items()}
    assert inputs["slots"].shape == (sizes.prefixes, sizes.rows, sizes.row_tokens)
    flat, first, embedding, read, rank = inputs["slots"].reshape(-1), 0, 0, [], dict.fromkeys(range(9), 0)
    for place, ids in items:
        slots = inputs["slots"][place, rank[place]]
        rank[place] += 1
        # Behind its end an item has a token of its own: one without a number would make others so.
        assert slots.tolist() == [*range(first, first + len(ids)), *[first] * (sizes.row_tokens - len(ids))]
        past = sum(prefixes[place][0])
        for offset, each in enumerate(ids):
            at = first + offset
            assert flat[inputs["token_slots"][at]] == at
            assert inputs["position_ids"][at] == past + offset
            if each == EMBEDDED:
                assert (inputs["input_ids"][at], inputs["embedding_rows"][at]) == (0, embedding)
                np.testing.assert_array_equal(inputs["embeddings"][embedding], rows[embedding])
                embedding += 1
            else:
                assert (inputs["input_ids"][at], inputs["embedding_rows"][at]) == (each, -1)
        first += len(ids)
        read += range(first - len(ids), first) if every_token else [first - 1]
    assert inputs["last_tokens"].tolist() == [*read, *[0] * more]
    assert inputs["past_lengths"].tolist() == [*(sum(lengths) for lengths, _ in prefixes), *[0] * more]
    assert set(inputs["embedding_rows"][first:]) <= {-1}
