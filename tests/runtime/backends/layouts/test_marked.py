"""`Marked`: texts beside each other with the places of their markers, and the way back."""

import numpy as np

from rankport.runtime.backends.layouts.marked import Marked
from rankport.runtime.tokens import EMBEDDED, TokenRun, TokenRuns

MARKERS = np.array([7, 9])


def test_markers_are_found_and_padding_is_none() -> None:
    runs = TokenRuns.of([TokenRun(np.array([1, 7, 2, 7, 9])), TokenRun(np.array([9, 0]))])
    marked = Marked.of(runs, np.array([7, 9, 0]), 1)
    assert marked.marks.tolist() == [[1, 3, 4], [0, 1, 0]]
    assert marked.counts.tolist() == [3, 2]
    assert marked.ids.tolist() == [[1, 7, 2, 7, 9], [9, 0, 0, 0, 0]]
    results = np.arange(6.0).reshape(2, 3, 1)
    assert marked.cut(results)[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_embeddings_have_rows_in_order_over_all_texts() -> None:
    rows = np.arange(12, dtype=np.float16).reshape(3, 4)
    runs = TokenRuns.of(
        [
            TokenRun(np.array([EMBEDDED, 7]), rows[:1]),
            TokenRun(np.array([3, EMBEDDED, EMBEDDED, 7]), rows[1:]),
        ]
    )
    marked = Marked.of(runs, MARKERS, 4)
    assert marked.rows.tolist() == [[0, -1, -1, -1], [-1, 1, 2, -1]]
    assert marked.ids.tolist() == [[0, 7, 0, 0], [3, 0, 0, 7]]
    assert marked.embeddings.dtype == np.float32
    np.testing.assert_array_equal(marked.embeddings, rows.astype(np.float32))


def test_without_embeddings_there_is_one_row_that_nobody_reads() -> None:
    marked = Marked.of(TokenRuns.of([TokenRun(np.array([7]))]), MARKERS, 4)
    assert marked.embeddings.shape == (1, 4)
    assert marked.rows.tolist() == [[-1]]
