"""`item_logits`: cosines by hand, of one block and of several, wherever the query's marker stands."""

import numpy as np
import pytest

from rankport.runtime.kinds.list_ranker.joining import BlockRows, item_logits
from support.lists.drafts import NUMBERED, alone_lists, lists_of

X, Y, XY = [2.0, 0.0], [0.0, 3.0], [1.0, 1.0]
HALF = float(np.sqrt(0.5))


def logits(rows: list[list[float]], blocks: list[int], **changes: object) -> list[float]:
    lists = lists_of(width=len(rows[0]), **changes)
    offsets = np.array(blocks)
    made = item_logits(BlockRows.of(np.array(rows, np.float32), offsets, lists), offsets, lists)
    assert made.dtype == np.float32
    assert made.shape == (blocks[-1], 1)
    return made[:, 0].tolist()


def test_an_item_is_compared_with_the_query_of_its_block() -> None:
    rows = [X, Y, XY, X, Y, Y]  # two items and their query, twice
    assert logits(rows, [0, 2, 4]) == pytest.approx([HALF, HALF, 0, 1])


def test_a_query_that_stands_first_is_found_there() -> None:
    first = {"head": [*NUMBERED["head"], {"mark": "query"}], "tail": []}
    assert logits([XY, X, Y, Y, X, Y], [0, 2, 4], **first) == pytest.approx([HALF, HALF, 0, 1])


def test_the_mean_query_weighs_blocks_by_their_best_item() -> None:
    rows = [X, Y, X, Y]  # x beside its query y, x beside its query y: cosines 0 and 0
    assert logits(rows, [0, 1, 2], join="mean-query") == pytest.approx([0, 0])
    rows = [X, X, Y, X]  # cosines 1 (query x) and 0 (query x)
    assert logits(rows, [0, 1, 2], join="mean-query") == pytest.approx([1, 0])
    rows = [X, X, X, Y]  # a block of cosine 1 weighs 1, one of cosine 0 a half: 1 * (2, 0) + 0.5 * (0, 3)
    mean = np.array([1.0 * 2, 0.5 * 3]) / 1.5
    expected = mean[0] / np.linalg.norm(mean)
    assert logits(rows, [0, 1, 2], join="mean-query") == pytest.approx([expected, expected])


def test_one_block_needs_no_joining() -> None:
    rows = [X, Y, XY]
    assert logits(rows, [0, 2], join="mean-query") == logits(rows, [0, 2])


def test_a_logit_is_given_as_it_is() -> None:
    plain = {"tail": [], "query_marker": None, "read_out": "logit"}
    assert logits([[0.25], [-3.0]], [0, 1, 2], **plain) == [0.25, -3.0]


def test_items_that_are_read_alone_are_compared_with_the_query_that_comes_first() -> None:
    """The prompt holds two of the three."""
    lists = alone_lists(width=2)
    offsets = np.array([0, 2])
    rows = np.array([XY, X, Y, XY], np.float32)
    made = item_logits(BlockRows.of(rows, offsets, lists), offsets, lists)
    assert made[:, 0].tolist() == pytest.approx([HALF, HALF, 1])
    assert made.dtype == np.float32


def test_a_vector_of_zeros_has_the_cosine_0() -> None:
    assert logits([[0.0, 0.0], X], [0, 1]) == [0.0]
