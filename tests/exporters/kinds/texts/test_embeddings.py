"""Comparisons of embeddings that no figure could tell of: values beyond what float16 holds."""

import numpy as np
import pytest

from rankport.exporters.kinds.texts.embeddings import compare_embeddings
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
