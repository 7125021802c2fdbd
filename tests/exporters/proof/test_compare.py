"""Comparison of two sets of logits."""

import numpy as np

from rankport.exporters.proof.compare import compare


def test_identical_items_do_not_cost_rank_agreement() -> None:
    expected = np.array([[1.0], [1.0], [2.0]], np.float32)
    actual = np.array([[1.0], [1.0 + 1e-7], [2.0]], np.float32)
    assert compare("mode", [expected], [actual]).kendall_tau == 1.0
    swapped = np.array([[2.0], [2.0], [1.0]], np.float32)
    assert compare("mode", [expected], [swapped]).kendall_tau < 0
