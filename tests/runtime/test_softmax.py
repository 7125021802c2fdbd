"""Sums of exponentials, where exp of a logit itself is none."""

import numpy as np
import pytest

from rankport.runtime.softmax import log_sums


def test_log_sums_are_those_of_shifted_logits() -> None:
    logits = np.array([[1000.0, 1000.0], [-1000.0, -1000.0], [0.0, -np.inf]], np.float32)
    np.testing.assert_allclose(log_sums(logits), [1000 + np.log(2), -1000 + np.log(2), 0.0])


@pytest.mark.parametrize("fault", [np.nan, np.inf])
def test_a_logit_that_is_no_number_leaves_no_sum(fault: float) -> None:
    sums = log_sums(np.array([[1.0, fault], [1.0, 2.0]], np.float32))
    assert np.isfinite(sums).tolist() == [False, True]
