"""Comparisons of embeddings that no figure could tell of: values beyond what float16 holds."""

import numpy as np
import pytest

from rankport.exporters.kinds.texts.embeddings import compare_embeddings, scaled_tolerance
from rankport.exporters.options.tolerance import Tolerance
from rankport.protos.errors import CheckpointError


def test_values_beyond_float16_are_refused_with_the_type_that_holds_them() -> None:
    expected = np.array([[[1.0, 2.0]], [[70_000.0, 3.0]]], np.float32)
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float16)
    with pytest.raises(
        CheckpointError, match=r"reach 70,000, and float16 ends at 65,504: .*--output-dtype float32"
    ):
        compare_embeddings("one_item", expected, rounded)
    assert compare_embeddings("one_item", expected, expected).max_abs_error == 0


@pytest.mark.parametrize(("value", "allowed"), [(0.01, 1e-4), (1.0, 1e-4), (300.0, 3e-2)])
def test_large_values_are_measured_at_their_scale_unless_an_error_is_asked_for(
    value: float, allowed: float
) -> None:
    expected = np.array([[[value, -value]]], np.float32)
    assert scaled_tolerance(Tolerance(), expected).exact_abs_error == pytest.approx(allowed)
    assert scaled_tolerance(Tolerance(max_abs_error=1e-4), expected).exact_abs_error == 1e-4
