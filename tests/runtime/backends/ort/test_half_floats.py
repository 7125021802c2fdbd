"""float32 in float16 as numpy casts it, by ONNX Runtime: in the place that is given, and nowhere else."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.ort.half_floats import HalfFloatCast


def awkward() -> NDArray[np.float32]:
    """Makes every number in float16, what lies halfway between two and beside that, and bits drawn at random."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = np.sort(halves[np.isfinite(halves)])
    ties = (finite[1:] + finite[:-1]) / 2
    beside = [np.nextafter(ties, np.float32(way)) for way in (-np.inf, np.inf)]
    drawn = np.random.default_rng(0).integers(0, 2**32, 2**16, np.uint32).view(np.float32)
    beyond = np.array([65519.996, 65520, -65520, 1e38, np.inf, -np.inf, np.nan], np.float32)
    return np.concatenate([halves, ties, *beside, drawn, beyond])


def as_numpy_casts(values: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float16)


def test_all_numbers_become_what_numpy_makes_of_them() -> None:
    values = awkward()
    target = np.zeros(len(values) + 2, np.float16)
    HalfFloatCast()(values, target[1:-1])
    np.testing.assert_array_equal(target[1:-1], as_numpy_casts(values))
    assert not target[[0, -1]].any()


def test_rows_of_a_wider_block_leave_what_is_between_them() -> None:
    values = np.random.default_rng(0).standard_normal((300, 16), np.float32)
    wide = np.zeros((300, 32), np.float16)
    HalfFloatCast()(values, wide[:, :16])
    np.testing.assert_array_equal(wide[:, :16], values.astype(np.float16))
    assert not wide[:, 16:].any()


@pytest.mark.parametrize("rows", [1, 5, 700])
@pytest.mark.parametrize("cut", [slice(None), slice(0, 16)], ids=["whole", "columns"])
def test_embeddings_of_several_requests_are_cast_into_the_block_of_a_pass(rows: int, cut: slice) -> None:
    drawn = np.random.default_rng(rows).standard_normal((3, rows, 32), np.float32)
    blocks = [drawn[0][:, cut], drawn[1][:, cut].astype(np.float16), drawn[2][::-1, cut]]
    width = blocks[0].shape[1]
    form = EmbeddingsForm(width, np.dtype(np.float16), cast=HalfFloatCast())
    written = np.full((4 * rows, width), 7, np.float16)
    form.input(blocks, 4 * rows).write(written)
    expected = np.concatenate([*(block.astype(np.float16) for block in blocks), np.zeros((rows, width))])
    np.testing.assert_array_equal(written, expected)
