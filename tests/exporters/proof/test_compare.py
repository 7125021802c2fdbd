"""Comparison of two sets of logits."""

import numpy as np

from rankport.exporters.proof.compare import compare, worst_of


def test_identical_items_do_not_cost_rank_agreement() -> None:
    expected = np.array([[1.0], [1.0], [2.0]], np.float32)
    actual = np.array([[1.0], [1.0 + 1e-7], [2.0]], np.float32)
    assert compare("mode", [expected], [actual]).kendall_tau == 1.0
    swapped = np.array([[2.0], [2.0], [1.0]], np.float32)
    assert compare("mode", [expected], [swapped]).kendall_tau < 0


def test_the_worst_of_several_modes_is_taken_figure_by_figure() -> None:
    far, close = [np.array([[10.0], [20.0]], np.float32)], [np.array([[0.1], [0.11]], np.float32)]
    moved = [far[0] + 1], [close[0][::-1]]
    modes = [compare("noise", source, other) for source, other in zip((far, close), moved, strict=True)]
    worst = worst_of(modes)
    assert (worst.requests, worst.items, worst.max_abs_error) == (2, 4, 1.0)
    assert worst.relative_error == modes[1].relative_error
    assert worst.kendall_tau == -1
