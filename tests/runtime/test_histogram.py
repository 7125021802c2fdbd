"""`Histogram` counts a value at the first edge that is not below it."""

from rankport.runtime.histogram import Histogram


def test_values_fall_up_to_their_edge() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 1.5, 4, 9):
        histogram.add(value)
    counts = histogram.snapshot()
    assert counts.counts == (2, 1, 1, 1)
    assert counts.upward() == [2, 3, 4, 5]
    assert counts.total == 16.0


def test_a_snapshot_stays_as_it_was() -> None:
    histogram = Histogram((1,))
    before = histogram.snapshot()
    histogram.add(0.1)
    assert before.counts == (0, 0)
