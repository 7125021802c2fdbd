"""`Marked`: texts beside each other with the places of their markers, and the way back."""

import numpy as np

from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.marked import (
    EMBEDDINGS,
    IDS,
    MARKS,
    POSITIONS,
    ROWS,
    Marked,
    MarkedSizes,
)
from rankport.runtime.tokens import EMBEDDED, TokenRun, TokenRuns

MARKERS = np.array([7, 9])


def test_markers_are_found_and_padding_is_none() -> None:
    runs = TokenRuns.of([TokenRun(np.array([1, 7, 2, 7, 9])), TokenRun(np.array([9, 0]))])
    marked = Marked.of(runs, np.array([7, 9, 0]))
    assert marked.marks.tolist() == [[1, 3, 4], [0, 1, 0]]
    assert marked.counts.tolist() == [3, 2]
    assert marked.ids.tolist() == [[1, 7, 2, 7, 9], [9, 0, 0, 0, 0]]
    results = np.arange(6.0).reshape(2, 3, 1)
    assert marked.cut(results)[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_without_markers_each_text_is_read_at_its_end() -> None:
    runs = TokenRuns.of([TokenRun(np.array([1, 7, 0])), TokenRun(np.array([9])), TokenRun(np.array([0, 0]))])
    marked = Marked.of(runs, np.array([], np.int64))
    assert marked.marks.tolist() == [[2], [0], [1]]
    assert marked.counts.tolist() == [1, 1, 1]


def test_embeddings_have_rows_in_order_over_all_texts() -> None:
    rows = np.arange(12, dtype=np.float16).reshape(3, 4)
    runs = TokenRuns.of(
        [
            TokenRun(np.array([EMBEDDED, 7]), rows[:1]),
            TokenRun(np.array([3, EMBEDDED, EMBEDDED, 7]), rows[1:]),
        ]
    )
    marked = Marked.of(runs, MARKERS)
    assert marked.rows.tolist() == [[0, -1, -1, -1], [-1, 1, 2, -1]]
    assert marked.ids.tolist() == [[0, 7, 0, 0], [3, 0, 0, 7]]
    embeddings = marked.inputs(marked.sizes, EmbeddingsForm(4))[EMBEDDINGS].array()
    assert embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings, rows.astype(np.float32))


def test_without_embeddings_there_is_one_row_that_nobody_reads() -> None:
    marked = Marked.of(TokenRuns.of([TokenRun(np.array([7]))]), MARKERS)
    assert marked.inputs(marked.sizes, EmbeddingsForm(4))[EMBEDDINGS].array().tolist() == [[0, 0, 0, 0]]
    assert marked.rows.tolist() == [[-1]]


def test_a_larger_pass_is_filled_with_what_nobody_reads() -> None:
    runs = TokenRuns.of([TokenRun(np.array([EMBEDDED, 7]), np.ones((1, 2), np.float16))])
    inputs = Marked.of(runs, MARKERS).inputs(MarkedSizes(2, 4, 2, 3), EmbeddingsForm(2, np.dtype(np.float16)))
    assert {name: value.array().tolist() for name, value in inputs.items()} == {
        IDS: [[0, 7, 0, 0], [0, 0, 0, 0]],
        POSITIONS: [0, 1, 2, 3],
        MARKS: [[1, 0], [0, 0]],
        ROWS: [[0, -1, -1, -1], [-1, -1, -1, -1]],
        EMBEDDINGS: [[1, 1], [0, 0], [0, 0]],
    }
    assert inputs[EMBEDDINGS].dtype == np.float16


def test_sizes_come_again_and_no_list_is_longer_than_positions() -> None:
    assert MarkedSizes(3, 61, 5, 2).rounded(300) == MarkedSizes(3, 64, 5, 2)
    assert MarkedSizes(33, 1001, 126, 1001).rounded(4096) == MarkedSizes(34, 1024, 128, 1024)
    assert MarkedSizes(1, 299, 1, 1).rounded(300).tokens == 300
